/**
 * Who is signed in. Tokens pass through here into one request header and are kept nowhere: not in storage, not in
 * the URL, not in a variable that outlives the call. The session itself is an HttpOnly cookie no script can read.
 */
import { bearer, refusal, retryAfterMs } from "./transports.js";

const WITHIN_MS = 10_000; // a server that takes the request and is silent is away
const LINK = "#login="; // what a sign-in link has before its token

/** @typedef {{subject: string, scopes: string[], expires_in: number}} Session */

/** A refusal, in words a person can act on. */
export class SignInError extends Error {
  /** @param {string} message @param {number} status 0 when no answer came */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The token in what was pasted: itself, a whole sign-in link or header, lines broken anywhere. @param {string} pasted */
function tokenIn(pasted) {
  const text = pasted.trim().replace(/^(Authorization:\s*)?Bearer\s+/i, "").replace(/\s+/g, "");
  return text.slice(text.indexOf(LINK) < 0 ? 0 : text.indexOf(LINK) + LINK.length);
}

/** @param {string} pasted @returns {Promise<Session>} */
export async function signIn(pasted) {
  const clean = tokenIn(pasted);
  if (!clean) throw new SignInError("Paste a token first.", 0);
  // three dot-separated parts of base64url: anything else the header could not even carry
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(clean)) {
    throw new SignInError("That does not look like a token: it has three parts with dots between them and begins with “eyJ”.", 400);
  }
  const response = await ask("POST", "/api/session", bearer(clean));
  if (response.ok) return response.json();
  throw new SignInError(await explained(response), response.status);
}

/** @returns {Promise<Session|null>} null when nobody is signed in */
export async function whoAmI() {
  const response = await ask("GET", "/api/session");
  if (response.ok) return response.json();
  if (response.status === 401) return null;
  throw new SignInError(await refusal(response), response.status);
}

/** The sign-in page, which leads back to this view. @param {boolean} ended it says that the session has ended */
export function signInPage(ended = false) {
  return `/login?${ended ? "ended=1&" : ""}next=${encodeURIComponent(location.pathname + location.search)}`;
}

/** The session slides, and every stream of it goes on. @returns {Promise<Session|null>} null when it has ended */
export async function renewSession() {
  const response = await ask("POST", "/api/session/renew");
  if (response.ok) return response.json();
  if (response.status === 401) return null;
  throw new SignInError(await refusal(response), response.status);
}

/** @param {boolean} everywhere also every other browser of this subject */
export async function signOut(everywhere) {
  const response = await ask("DELETE", everywhere ? "/api/session?everywhere=1" : "/api/session");
  if (!response.ok && response.status !== 401) throw new SignInError(await refusal(response), response.status);
}

/** @param {string} method @param {string} path @param {Record<string, string>} [headers] */
async function ask(method, path, headers = {}) {
  try {
    return await fetch(path, {
      method, headers: { Accept: "application/json", ...headers }, cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS),
    });
  } catch {
    throw new SignInError("The server does not answer. Is it running, and is this device still connected?", 0);
  }
}

/** @param {Response} response */
async function explained(response) {
  const cause = await refusal(response);
  if (response.status === 429 || response.status === 503) {
    const ms = retryAfterMs(response);
    return `${cause} Try again ${ms ? `in ${Math.ceil(ms / 1000)} seconds` : "in a moment"}.`;
  }
  return cause;
}
