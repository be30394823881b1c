/**
 * Three ways to the same frames: WebSocket, Server-Sent Events, polling. A transport lives once: `open`, any number
 * of messages, one `close`. It decides nothing; when to come back and by which way is `client.js`.
 *
 * @typedef {import('./types.js').TransportHandlers} TransportHandlers
 * @typedef {{hours: number, interval: number, delta: boolean, resume: string|null, token: string|null}} StreamQuery
 */

const OPEN_TIMEOUT_MS = 10_000;
const POLL_MS = 10_000;

export class WebSocketTransport {
  kind = /** @type {const} */ ("ws");
  /** The page can send frames on it. */
  duplex = true;

  /**
   * @param {string} base origin of the server, "" for the page's own
   * @param {string|null} token for pages of another origin; null: the session cookie
   * @param {TransportHandlers} handlers
   */
  constructor(base, token, handlers) {
    const url = new URL("/ws", base || location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    let opened = false;
    let ended = false;
    const socket = token ? new WebSocket(url, ["amiga.v1", `amiga.bearer.${token}`]) : new WebSocket(url);
    this.socket = socket;
    const end = (/** @type {number} */ code, /** @type {string} */ reason) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      handlers.close({ opened, code, reason, status: null, retryMs: null });
    };
    this.end = end;
    // a server that accepts TCP and then says nothing would hold the page for minutes
    const timer = setTimeout(() => this.close(1006, "no answer in 10 s"), OPEN_TIMEOUT_MS);
    socket.addEventListener("open", () => {
      opened = true;
      clearTimeout(timer);
      handlers.open();
    });
    socket.addEventListener("message", (event) => {
      if (ended || typeof event.data !== "string") return;
      const frame = parsed(event.data);
      if (frame) handlers.message(frame, byteLength(event.data));
    });
    socket.addEventListener("close", (event) => end(event.code, event.reason));
  }

  /** @param {object} frame @returns {number} bytes sent, 0 if it could not */
  send(frame) {
    if (this.socket.readyState !== WebSocket.OPEN) return 0;
    const text = JSON.stringify(frame);
    this.socket.send(text);
    return byteLength(text);
  }

  /** A closing handshake can hang on a dead network: tell the owner at once, let the browser finish alone. */
  close(code = 1000, reason = "") {
    this.socket.close(code === 1006 ? undefined : code);
    this.end(code, reason);
  }
}

export class SseTransport {
  kind = /** @type {const} */ ("sse");
  duplex = false;

  /**
   * `fetch` rather than EventSource: it shows the status of a refusal, sends Last-Event-ID on the first request,
   * and leaves the backoff to us.
   * @param {string} base @param {StreamQuery} query @param {TransportHandlers} handlers
   */
  constructor(base, query, handlers) {
    this.abort = new AbortController();
    this.handlers = handlers;
    this.opened = false;
    this.ended = false;
    /** @type {number|null} */
    this.retryMs = null;
    void this.#read(base, query);
  }

  /** @param {string} base @param {StreamQuery} query */
  async #read(base, query) {
    const timer = setTimeout(() => this.close(1006, "no answer in 10 s"), OPEN_TIMEOUT_MS);
    try {
      const url = new URL("/api/stream/metrics", base || location.href);
      url.searchParams.set("hours", String(query.hours));
      url.searchParams.set("interval", String(query.interval));
      if (query.delta) url.searchParams.set("delta", "1");
      /** @type {Record<string, string>} */
      const headers = { Accept: "text/event-stream", ...bearer(query.token) };
      if (query.resume) headers["Last-Event-ID"] = query.resume;
      const response = await fetch(url, { headers, cache: "no-store", signal: this.abort.signal });
      if (!response.ok || !response.body) {
        this.#end(1006, await refusal(response), response.status, retryAfterMs(response));
        return;
      }
      clearTimeout(timer);
      this.opened = true;
      this.handlers.open();
      const lines = new EventStreamParser((event, data, bytes) => this.#frame(event, data, bytes));
      lines.onretry = (ms) => { this.retryMs = ms; };
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.ended) break;
        lines.feed(value);
      }
      this.#end(1006, "the stream ended", null, this.retryMs);
    } catch (error) {
      this.#end(1006, error instanceof Error ? error.message : String(error), null, this.retryMs);
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {string} event @param {string} text @param {number} bytes */
  #frame(event, text, bytes) {
    if (this.ended) return;
    try {
      this.handlers.message({ event: event || "metrics_update", data: JSON.parse(text) }, bytes);
    } catch {
      this.close(1007, "a frame that is not JSON");
    }
  }

  /** @param {number} code @param {string} reason @param {number|null} status @param {number|null} retryMs */
  #end(code, reason, status, retryMs) {
    if (this.ended) return;
    this.ended = true;
    this.handlers.close({ opened: this.opened, code, reason, status, retryMs });
  }

  send() {
    return 0;
  }

  close(code = 1000, reason = "") {
    this.#end(code, reason, null, this.retryMs);
    this.abort.abort();
  }
}

/** Text chunks to events (the WHATWG event stream format, without `id`: frames carry their position themselves). */
export class EventStreamParser {
  /** @param {(event: string, data: string, bytes: number) => void} onevent */
  constructor(onevent) {
    this.onevent = onevent;
    /** @type {(ms: number) => void} */
    this.onretry = () => {};
    this.rest = "";
    this.event = "";
    /** @type {string[]} */
    this.data = [];
    this.bytes = 0;
  }

  /** @param {string} chunk */
  feed(chunk) {
    this.rest += chunk;
    // a CR at the very end may be the first half of CRLF: wait for the next chunk
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    this.bytes += byteLength(line) + 1;
    if (line === "") {
      if (this.data.length) this.onevent(this.event, this.data.join("\n"), this.bytes);
      this.event = "";
      this.data = [];
      this.bytes = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    else if (field === "retry" && /^\d+$/.test(value)) this.onretry(Number(value));
  }
}

export class PollTransport {
  kind = /** @type {const} */ ("poll");
  duplex = false;

  /** @param {string} base @param {StreamQuery} query @param {TransportHandlers} handlers */
  constructor(base, query, handlers) {
    this.handlers = handlers;
    this.opened = false;
    this.ended = false;
    this.abort = new AbortController();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    this.token = query.token;
    const url = new URL("/api/metrics/overview", base || location.href);
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
        this.#end(1006, await refusal(response), response.status, retryAfterMs(response));
        return;
      }
      const text = await response.text();
      if (this.ended) return;
      if (!this.opened) {
        this.opened = true;
        this.handlers.open();
      }
      this.handlers.message({ event: "metrics_update", data: JSON.parse(text) }, byteLength(text));
      this.timer = setTimeout(() => void this.#ask(url), POLL_MS);
    } catch (error) {
      this.#end(1006, error instanceof Error ? error.message : String(error), null, null);
    }
  }

  /** @param {number} code @param {string} reason @param {number|null} status @param {number|null} retryMs */
  #end(code, reason, status, retryMs) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.handlers.close({ opened: this.opened, code, reason, status, retryMs });
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
  try {
    const frame = JSON.parse(text);
    return frame !== null && typeof frame === "object" && typeof frame.event === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** @param {string|null} token @returns {Record<string, string>} */
export function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

const encoder = new TextEncoder();

/** @param {string} text */
export function byteLength(text) {
  return encoder.encode(text).length;
}

/** The sentence in a refusal's body, else its status. @param {Response} response */
export async function refusal(response) {
  try {
    const body = await response.json();
    if (typeof body?.error === "string") return body.ref ? `${body.error} (ref ${body.ref})` : body.error;
  } catch {
    // not JSON: a proxy's own page
  }
  return `the server answered ${response.status}`;
}

/** @param {Response} response @returns {number|null} */
export function retryAfterMs(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}
