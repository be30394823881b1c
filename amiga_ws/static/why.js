/**
 * Why a stream has ended or never began. A browser tells a page nothing about a refused handshake, so the session is
 * asked; and a page that the server does not know may not even read that.
 */
import { address, bearer, notAccepted, refusal, retryAfterMs } from "./transports.js";

const WITHIN_MS = 10_000;

/**
 * @param {string} base @param {string|null} token
 * @returns {Promise<{status: number, reason: string, retryMs: number|null, refused: boolean}>} status 0: no answer that can be read
 */
export async function askWhy(base, token) {
  try {
    const response = await fetch(address("/api/session", base), {
      headers: { Accept: "application/json", ...bearer(token) }, cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS),
    });
    const reason = response.ok ? "" : await refusal(response);
    return { status: response.status, reason, retryMs: retryAfterMs(response), refused: notAccepted(response) };
  } catch {
    const foreign = typeof location !== "undefined" && address("/", base).origin !== location.origin;
    return { status: 0, reason: foreign ? unreadable(location.origin) : "The server does not answer.", retryMs: null, refused: false };
  }
}

/** A browser shows a page it does not belong to no difference between a refusal and nobody. @param {string} origin */
function unreadable(origin) {
  const fromDisk = origin === "null" || origin === "file://";
  const [page, setting] = fromDisk
    ? ["pages opened from disk (their origin is “null”)", "origins.allow_null: true"]
    : [`pages of ${origin}`, "that origin in origins.allowed"];
  return `No answer that this page may read. Either no server runs there, or it does not take ${page}: ` +
    `its config.yaml needs ${setting}.`;
}
