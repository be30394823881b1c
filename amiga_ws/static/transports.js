/**
 * Three ways to the same frames: WebSocket, Server-Sent Events, polling. A transport lives once: `open`, any number
 * of messages, one `close`. It decides nothing; when to come back and by which way is `client.js`.
 *
 * @typedef {import('./types.js').TransportHandlers} TransportHandlers
 * @typedef {object} StreamQuery
 * @property {string} base         origin of the server
 * @property {string|null} token   null: the session cookie
 * @property {typeof WebSocket|undefined} Socket
 * @property {number} hours
 * @property {number} interval     s
 * @property {boolean} delta
 * @property {string|null} resume  a position
 */

import { EventStreamParser, byteLength } from "./eventstream.js";

const OPEN_TIMEOUT_MS = 10_000; // a server that takes the connection and says nothing would hold the page for minutes
const POLL_MS = 10_000;
const LINE_MAX = 16 * 2 ** 20; // characters without a line's end: no server of ours
const OPEN = 1; // WebSocket.OPEN, in every implementation

/** @param {string} path @param {string} base */
export function address(path, base) {
  return new URL(path, base || location.href);
}

export class WebSocketTransport {
  kind = /** @type {const} */ ("ws");
  /** The page can send frames on it. */
  duplex = true;

  /** @param {StreamQuery} query @param {TransportHandlers} handlers */
  constructor({ base, token, Socket = WebSocket }, handlers) {
    const url = address("/ws", base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.handlers = handlers;
    this.opened = false;
    this.ended = false;
    this.socket = token ? new Socket(url, ["amiga.v1", `amiga.bearer.${token}`]) : new Socket(url);
    this.timer = setTimeout(() => this.close(1006, "No answer in 10 s."), OPEN_TIMEOUT_MS);
    this.socket.addEventListener("message", (event) => this.#message(event.data));
    this.socket.addEventListener("close", (event) => this.#end(event.code, event.reason));
    this.socket.addEventListener("error", () => {}); // `close` follows; `ws` for Node would throw
  }

  /** The server speaks first. A proxy that takes the upgrade and hands nothing on has not opened anything. @param {unknown} text */
  #message(text) {
    if (this.ended) return;
    const frame = typeof text === "string" ? parsed(text) : null;
    if (!frame) {
      this.close(1007, "The server sent what is no frame.");
      return;
    }
    if (!this.opened) {
      this.opened = true;
      clearTimeout(this.timer);
      this.handlers.open();
    }
    this.handlers.message(frame, byteLength(/** @type {string} */ (text)));
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.handlers.close({ opened: this.opened, code, reason, status: null, retryMs: null, refused: false });
  }

  /** @param {object} frame @returns {number} bytes sent, 0 if it could not */
  send(frame) {
    if (this.socket.readyState !== OPEN) return 0;
    const text = JSON.stringify(frame);
    this.socket.send(text);
    return byteLength(text);
  }

  /** A closing handshake can hang on a dead network: tell the owner at once, let the browser finish alone. */
  close(code = 1000, reason = "") {
    this.socket.close(code === 1000 ? code : undefined); // the browser allows a page no other of these codes
    this.#end(code, reason);
  }
}

export class SseTransport {
  kind = /** @type {const} */ ("sse");
  duplex = false;

  /**
   * `fetch` rather than EventSource: it shows the status of a refusal, sends Last-Event-ID on the first request,
   * and leaves the backoff to us.
   * @param {StreamQuery} query @param {TransportHandlers} handlers
   */
  constructor(query, handlers) {
    this.abort = new AbortController();
    this.handlers = handlers;
    this.opened = false;
    this.ended = false;
    /** @type {number|null} */
    this.retryMs = null;
    this.timer = setTimeout(() => this.close(1006, "No answer in 10 s."), OPEN_TIMEOUT_MS);
    void this.#read(query);
  }

  /** @param {StreamQuery} query */
  async #read(query) {
    try {
      const url = address("/api/stream/metrics", query.base);
      url.searchParams.set("hours", String(query.hours));
      url.searchParams.set("interval", String(query.interval));
      if (query.delta) url.searchParams.set("delta", "1");
      /** @type {Record<string, string>} */
      const headers = { Accept: "text/event-stream", ...bearer(query.token) };
      if (query.resume) headers["Last-Event-ID"] = query.resume;
      const response = await fetch(url, { headers, cache: "no-store", signal: this.abort.signal });
      if (!response.ok || !response.body) {
        this.#end(1006, await refusal(response), response.status, retryAfterMs(response), notAccepted(response));
        return;
      }
      const lines = new EventStreamParser((event, data, bytes) => this.#frame(event, data, bytes));
      lines.onretry = (ms) => { this.retryMs = ms; };
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.ended) break;
        lines.feed(value);
        if (lines.pending > LINE_MAX) throw new Error("The server sent a line without an end.");
      }
      this.#end(1006, "The stream ended.", null, this.retryMs);
    } catch (error) {
      this.#end(1006, own(error), null, this.retryMs);
    }
  }

  /** A proxy that keeps the response for itself has not opened anything. @param {string} event @param {string} text @param {number} bytes */
  #frame(event, text, bytes) {
    if (this.ended) return;
    const data = json(text);
    if (data === undefined) {
      this.close(1007, "The server sent what is no frame.");
      return;
    }
    if (!this.opened) {
      this.opened = true;
      clearTimeout(this.timer);
      this.handlers.open();
    }
    this.handlers.message({ event: event || "metrics_update", data }, bytes);
  }

  /** @param {number} code @param {string} reason @param {number|null} status @param {number|null} retryMs @param {boolean} [refused] */
  #end(code, reason, status, retryMs, refused = false) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.handlers.close({ opened: this.opened, code, reason, status, retryMs, refused });
    this.abort.abort();
  }

  send() {
    return 0;
  }

  close(code = 1000, reason = "") {
    this.#end(code, reason, null, this.retryMs);
  }
}

export class PollTransport {
  kind = /** @type {const} */ ("poll");
  duplex = false;

  /** @param {StreamQuery} query @param {TransportHandlers} handlers */
  constructor(query, handlers) {
    this.handlers = handlers;
    this.opened = false;
    this.ended = false;
    this.abort = new AbortController();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    this.token = query.token;
    this.everyMs = Math.max(POLL_MS, query.interval * 1000);
    const url = address("/api/metrics/overview", query.base);
    url.searchParams.set("hours", String(query.hours));
    void this.#ask(url);
  }

  /** @param {URL} url */
  async #ask(url) {
    try {
      const response = await fetch(url, {
        headers: { Accept: "application/json", ...bearer(this.token) }, cache: "no-store",
        signal: AbortSignal.any([this.abort.signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]),
      });
      if (!response.ok) {
        this.#end(1006, await refusal(response), response.status, retryAfterMs(response), notAccepted(response));
        return;
      }
      const text = await response.text();
      const data = json(text);
      if (this.ended) return;
      if (!this.opened) {
        this.opened = true;
        this.handlers.open();
      }
      this.handlers.message({ event: "metrics_update", data }, byteLength(text));
      this.timer = setTimeout(() => void this.#ask(url), this.everyMs);
    } catch (error) {
      this.#end(1006, own(error), null, null);
    }
  }

  /** @param {number} code @param {string} reason @param {number|null} status @param {number|null} retryMs @param {boolean} [refused] */
  #end(code, reason, status, retryMs, refused = false) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.handlers.close({ opened: this.opened, code, reason, status, retryMs, refused });
  }

  send() {
    return 0;
  }

  close(code = 1000, reason = "") {
    this.#end(code, reason, null, null);
    this.abort.abort();
  }
}

/** @param {string} text */
function parsed(text) {
  const frame = json(text);
  return frame !== null && typeof frame === "object" && typeof frame.event === "string" ? frame : null;
}

/** @param {string} text @returns {any} undefined: it is none */
function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // or nested deeper than the stack
  }
}

/** @param {string|null} token @returns {Record<string, string>} */
export function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** What is wrong in words of ours; a browser's own ("Failed to fetch", "signal timed out") tell nobody anything. @param {unknown} error */
function own(error) {
  return error instanceof Error && !(error instanceof TypeError) && !(error instanceof DOMException) ? error.message : "";
}

/** The words in a refusal's body as a sentence, else its status. @param {Response} response */
export async function refusal(response) {
  try {
    const body = await response.json();
    if (typeof body?.error === "string" && body.error) return sentence(body.error) + (body.ref ? ` (ref ${body.ref})` : "");
  } catch {
    // not JSON: a proxy's own page
  }
  return `The server answered ${response.status}.`;
}

/** @param {string} text */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Whether there was a credential and it does not count any more: told by the server, as RFC 6750 has it. @param {Response} response */
export function notAccepted(response) {
  return response.status === 401 && (response.headers.get("WWW-Authenticate") ?? "").includes("invalid_token");
}

/** @param {Response} response @returns {number|null} */
export function retryAfterMs(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}
