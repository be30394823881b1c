/**
 * Why a stream has ended or never began. A browser tells a page nothing about a refused handshake, so the session is
 * asked; and of a page that the server does not know, not even that: what can be seen is whether the server is there.
 */
import { address, bearer, refusal, retryAfterMs } from "./transports.js";

const WITHIN_MS = 10_000;

/**
 * @param {string} base @param {string|null} token
 * @returns {Promise<{status: number, reason: string, retryMs: number|null}>} status 0: no answer that can be read
 */
export async function askWhy(base, token) {
  try {
    const response = await fetch(address("/api/session", base), {
      headers: { Accept: "application/json", ...bearer(token) }, cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS),
    });
    const reason = response.ok ? "" : await refusal(response);
    return { status: response.status, reason, retryMs: retryAfterMs(response) };
  } catch {
    const foreign = typeof location !== "undefined" && address("/", base).origin !== location.origin;
    const reason = foreign && (await isThere(base)) ? unknownOrigin(location.origin) : "The server does not answer.";
    return { status: 0, reason, retryMs: null };
  }
}

/** Whether anything answers, readable or not. @param {string} base */
async function isThere(base) {
  try {
    await fetch(address("/health", base), { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) });
    return true;
  } catch {
    return false;
  }
}

/** @param {string} origin */
function unknownOrigin(origin) {
  if (origin === "null" || origin === "file://") {
    return "The server is there and refuses this page. A page opened from disk has the origin “null”: " +
      "the server takes it with origins.allow_null: true in its config.yaml.";
  }
  return `The server is there and refuses pages of ${origin}: origins.allowed in its config.yaml must name it.`;
}
