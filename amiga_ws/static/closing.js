/**
 * What the end of a stream means and how long to stay away. Pure: the table of docs/protocol.md as data.
 */

const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const SERVER_MIN_MS = 250; // a server that says 0 to every attempt would be asked without a pause
const SERVER_MAX_MS = 300_000;

/** Close codes in words for a person, without the ones that say nothing. @type {Record<number, string>} */
const WORDS = {
  4001: "The server is restarting.",
  4002: "This device was too slow to keep up.",
  4003: "The sign-in has expired.",
  4005: "Too many requests from this page.",
  4006: "The server had an internal error.",
  4501: "No sign-in reached the server in time.",
  4502: "The token was refused.",
  4503: "You were signed out.",
  4504: "This sign-in may no longer read metrics.",
  4505: "This page was disconnected: by the administrator, or to make room for a newer one of yours.",
  4506: "The server could not read this page's messages.",
};

const SIGN_IN = new Set([4501, 4502, 4503]);

/**
 * - `return`: come back after a while
 * - `ask`: only `GET /api/session` can tell (a browser shows a refused handshake as a bare 1006; after 4003 the
 *   cookie may hold a renewed session)
 * - `signin`, `stop`: do not come back alone
 * @param {number} code @returns {'return'|'ask'|'signin'|'stop'}
 */
export function meaning(code) {
  if (code >= 4500 && code <= 4999) return SIGN_IN.has(code) ? "signin" : "stop";
  if (code >= 4000 && code <= 4499 && code !== 4003) return "return";
  return "ask";
}

/** @param {number} code @param {string|null|undefined} given the server's own words @returns {string} */
export function sentence(code, given) {
  return WORDS[code] ?? (given || "The connection was lost.");
}

/**
 * Full jitter between half a second and a ceiling that doubles up to 20 s, so that many pages of one restarted
 * server do not come back together.
 * @param {number} attempt 1 for the first @param {() => number} [random] 0-1 @returns {number} ms
 */
export function backoffMs(attempt, random = Math.random) {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt, 10));
  return BACKOFF_MIN_MS + random() * (ceiling - BACKOFF_MIN_MS);
}

/** How long the server asks to stay away, within reason. @param {unknown} ms @returns {number|null} null: it did not say */
export function askedMs(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return null;
  return Math.min(SERVER_MAX_MS, Math.max(SERVER_MIN_MS, ms));
}
