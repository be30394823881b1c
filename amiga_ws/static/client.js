/**
 * The live connection of a page: one stream of snapshots, by WebSocket, else SSE, else polling, that finds its way
 * back by itself and says at every moment what it is doing.
 *
 *     const client = new LiveClient({ hours: 24, interval: 2 });
 *     client.addEventListener("snapshot", (event) => show(event.detail.snapshot));
 *     client.addEventListener("state", (event) => tell(event.detail));
 *     client.start();
 *
 * Events (all CustomEvent; `detail`):
 *   state     ClientState: phase, transport, retryAt, reason, code, attempt
 *   snapshot  {snapshot, event: "metrics_update"|"metrics_patch", bytes}
 *   connected the data of the server's `connected`; `subscribed` likewise
 *   alive     {serverTime: number|null} any sign of life
 *   notice    {kind: "lag"|"auth"|"error"|"bye"|"token_refreshed", data}
 *   frame     {direction: "in"|"out", event, data, id, bytes} every frame, for the test page
 *
 * Coming back (docs/protocol.md, close codes): 4000-4499 return after the server's `bye.retry_ms`, 4500-4999 stop;
 * anything else returns after 0.5-20 s with full jitter. A refused handshake is a bare 1006 in a browser, so the
 * client asks `GET /api/session` why: 401 is "signed out" and ends the attempts; a working session whose WebSocket
 * is refused twice (a proxy that drops upgrades) moves one transport down and tries WebSocket again every minute.
 */
import { backoffMs, meaning, sentence } from "./closing.js";
import { PatchError, applyPatch } from "./patch.js";
import { PollTransport, SseTransport, WebSocketTransport, bearer, refusal, retryAfterMs } from "./transports.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').ClientState} ClientState */
/** @typedef {import('./types.js').TransportEnd} TransportEnd */

const HEARTBEAT_S = 15; // until `connected` says otherwise
const SILENCE = 2.5; // heartbeats without a byte before the stream counts as dead
const UPGRADE_MS = 60_000;
const SETTLED_MS = 5_000; // a stream that lives this long has earned a fresh backoff
/** @type {('ws'|'sse'|'poll')[]} */
const LADDER = ["ws", "sse", "poll"];

export class LiveClient extends EventTarget {
  /**
   * @param {object} [options]
   * @param {string} [options.base]       origin of the server; default: the page's own
   * @param {string|null} [options.token] for a page of another origin; default: the session cookie
   * @param {number} [options.hours]      window, 1-168
   * @param {number} [options.interval]   seconds between updates, 1-60
   * @param {boolean} [options.delta]     ask for `metrics_patch` instead of full updates
   * @param {boolean} [options.subscribe] subscribe as soon as connected (default true)
   * @param {('ws'|'sse'|'poll')[]} [options.transports] in the order to try
   */
  constructor(options = {}) {
    super();
    this.base = options.base ?? "";
    this.token = options.token ?? null;
    this.hours = options.hours ?? 24;
    this.interval = options.interval ?? 2;
    this.delta = options.delta ?? false;
    this.wanted = options.subscribe ?? true;
    this.ladder = options.transports ?? LADDER;
    /** The last `connected` data. @type {any} */
    this.connected = null;
    /** @type {ClientState} */
    this.state = { phase: "idle", transport: this.ladder[0], retryAt: null, reason: null, code: null, attempt: 0 };

    /** Newest document and what it is. @type {Snapshot|null} */
    this.snapshot = null;
    /** @type {WebSocketTransport|SseTransport|PollTransport|null} */
    this.transport = null;
    this.rung = 0; // index into the ladder
    this.refused = 0; // handshakes of this rung refused although the session is good
    this.serial = 0; // numbers our requests
    this.moving = false; // a subscribe is under way: updates of the old window may still arrive
    this.turn = 0; // moves whenever a stream is let go, so that late answers know they are late
    this.heartbeat = HEARTBEAT_S;
    /** The last `bye` of this stream. @type {any} */
    this.bye = null;
    /** @type {Record<string, ReturnType<typeof setTimeout>|undefined>} */
    this.timers = {};
    /** @type {Map<string, (data: any) => void>} answers awaited, by request id */
    this.awaited = new Map();
  }

  // -- what a page may do ------------------------------------------------------------------------

  /** Connect, or try again at once: also the way out of `signedout` and `stopped`. */
  start() {
    this.#drop();
    this.refused = 0;
    this.#open();
  }

  /** Hang up and stay away until `start`. */
  stop() {
    this.#drop();
    this.#enter({ phase: "idle", retryAt: null, reason: null, code: null, attempt: 0 });
  }

  /** Another window; the state of it follows. @param {number} hours */
  setHours(hours) {
    if (hours === this.hours) return;
    this.hours = hours;
    if (this.wanted) this.subscribe();
  }

  /** @param {number} seconds 1-60 */
  setInterval(seconds) {
    this.interval = seconds;
    if (this.transport?.duplex) return this.request("set_interval", { interval: seconds });
    return this.#reopen();
  }

  /** (Re-)subscribe with the current window and interval. */
  subscribe() {
    this.wanted = true;
    if (!this.transport?.duplex) return this.#reopen();
    /** @type {Record<string, any>} */
    const data = { hours: this.hours, update_interval: this.interval };
    if (this.delta) data.delta = true;
    const resume = this.#position();
    if (resume) data.resume = resume;
    this.moving = true;
    return this.request("subscribe", data);
  }

  unsubscribe() {
    this.wanted = false;
    return this.request("unsubscribe");
  }

  /** Ask for the newest state now. */
  async refresh() {
    if (this.transport?.duplex) return this.request("request_refresh");
    const url = new URL("/api/metrics/overview", this.base || location.href);
    url.searchParams.set("hours", String(this.hours));
    const response = await fetch(url, { headers: bearer(this.token), cache: "no-store" });
    if (response.ok) this.#full(await response.json(), 0);
    return null;
  }

  /**
   * Send a frame and wait for its answer (an `error` is an answer too); null when it could not be sent or none came.
   * @param {string} event @param {object} [data] @returns {Promise<{event: string, data: any, ms: number}|null>}
   */
  request(event, data) {
    const id = `${event}-${++this.serial}`;
    const frame = data ? { event, data, id } : { event, id };
    const sent = this.transport?.send(frame) ?? 0;
    if (!sent) return Promise.resolve(null);
    this.#emit("frame", { direction: "out", event, data: data ?? null, id, bytes: sent });
    const start = performance.now();
    return new Promise((resolve) => {
      const timer = setTimeout(() => { this.awaited.delete(id); resolve(null); }, 10_000);
      this.awaited.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer && { ...answer, ms: performance.now() - start });
      });
    });
  }

  // -- opening and losing a stream ---------------------------------------------------------------

  #open() {
    const kind = this.ladder[this.rung];
    this.bye = null;
    this.#enter({ phase: "connecting", transport: kind, retryAt: null });
    this.transport = this.#make(kind, (end) => void this.#lost(end));
    this.#watch();
  }

  /** @param {'ws'|'sse'|'poll'} kind @param {(end: TransportEnd) => void} close */
  #make(kind, close) {
    /** @type {any} */
    let own = null;
    const handlers = {
      open: () => { if (this.transport === own) this.#opened(); },
      message: (/** @type {any} */ frame, /** @type {number} */ bytes) => {
        if (this.transport === own) this.#frame(frame, bytes);
      },
      close: (/** @type {TransportEnd} */ end) => { if (this.transport === own) close(end); },
    };
    const query = {
      hours: this.hours, interval: this.interval, delta: this.delta, resume: this.#position(), token: this.token,
    };
    if (kind === "ws") own = new WebSocketTransport(this.base, this.token, handlers);
    else if (kind === "sse") own = new SseTransport(this.base, query, handlers);
    else own = new PollTransport(this.base, query, handlers);
    return own;
  }

  #opened() {
    this.refused = 0;
    this.#watch();
    this.#later("settle", SETTLED_MS, () => { this.state = { ...this.state, attempt: 0 }; });
    if (this.rung > 0 && this.ladder[0] === "ws") this.#later("upgrade", UPGRADE_MS, () => this.#probe());
    // WebSocket counts as live with `connected`, polling with its first answer
    if (!this.transport?.duplex) this.#enter({ phase: "live", retryAt: null, reason: null, code: null });
  }

  /** On a lower transport: does WebSocket work by now? The present stream goes on until it does. */
  #probe() {
    const url = new URL("/ws", this.base || location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const probe = this.token ? new WebSocket(url, ["amiga.v1", `amiga.bearer.${this.token}`]) : new WebSocket(url);
    probe.addEventListener("open", () => {
      probe.close();
      if (this.state.phase !== "live") return;
      this.#drop();
      this.rung = 0;
      this.#open();
    });
    probe.addEventListener("error", () => this.#later("upgrade", UPGRADE_MS, () => this.#probe()));
  }

  /** @param {TransportEnd} end */
  async #lost(end) {
    const bye = this.bye;
    this.#drop();
    const code = bye?.code ?? end.code;
    const words = sentence(code, bye?.reason || end.reason);
    const serverMs = bye?.retry_ms ?? end.retryMs;
    const next = end.status === 401 ? "signin" : meaning(code);
    if (next === "signin") this.#halt("signedout", words, code);
    else if (next === "stop") this.#halt("stopped", words, code);
    else if (next === "return") this.#wait(serverMs, words, code);
    else {
      this.#enter({ phase: "waiting", retryAt: null, reason: words, code });
      const turn = this.turn;
      const why = await this.#askSession();
      if (turn !== this.turn) return; // the page moved on meanwhile
      if (why.status === 401) this.#halt("signedout", code === 4003 ? words : why.reason, code);
      else if (why.status === 403 || why.status === 421) this.#halt("stopped", why.reason, code);
      else {
        if (why.status === 200 && !end.opened) this.#descend();
        this.#wait(why.retryMs ?? serverMs, why.reason || words, code);
      }
    }
  }

  /** The session is good and yet this transport does not come up: after two refusals use the next one. */
  #descend() {
    this.refused += 1;
    if (this.refused < 2) return;
    this.refused = 0;
    // from the last rung back to the first: whatever the trouble is, it is not one transport's
    this.rung = (this.rung + 1) % this.ladder.length;
  }

  /** @returns {Promise<{status: number, reason: string, retryMs: number|null}>} status 0: no answer at all */
  async #askSession() {
    try {
      const response = await fetch(new URL("/api/session", this.base || location.href), {
        headers: { Accept: "application/json", ...bearer(this.token) }, cache: "no-store",
        signal: AbortSignal.timeout(10_000),
      });
      const reason = response.ok ? "" : await refusal(response);
      return { status: response.status, reason, retryMs: retryAfterMs(response) };
    } catch {
      return { status: 0, reason: "The server does not answer.", retryMs: null };
    }
  }

  /** @param {number|null|undefined} serverMs @param {string} reason @param {number} code */
  #wait(serverMs, reason, code) {
    const attempt = this.state.attempt + 1;
    const ms = serverMs ?? backoffMs(attempt);
    this.#enter({ phase: "waiting", transport: this.ladder[this.rung], retryAt: performance.now() + ms, reason, code, attempt });
    this.#later("retry", ms, () => this.#open());
  }

  /** @param {'signedout'|'stopped'} phase @param {string} reason @param {number} code */
  #halt(phase, reason, code) {
    if (code === 4503) this.snapshot = null; // signed out on purpose: nothing of it stays
    this.#enter({ phase, retryAt: null, reason, code, attempt: 0 });
  }

  #reopen() {
    if (!this.transport) return Promise.resolve(null);
    this.#drop();
    this.#open();
    return Promise.resolve(null);
  }

  /** Let go of the present stream without hearing of its end. */
  #drop() {
    const old = this.transport;
    this.transport = null;
    this.connected = null;
    this.moving = false;
    for (const name of Object.keys(this.timers)) clearTimeout(this.timers[name]);
    for (const answer of this.awaited.values()) answer(/** @type {any} */ (null));
    this.awaited.clear();
    this.turn += 1;
    old?.close(1000, "");
  }

  // -- frames ------------------------------------------------------------------------------------

  /** @param {{event: string, data: any, id?: any}} frame @param {number} bytes */
  #frame(frame, bytes) {
    const { event, data, id } = frame;
    this.#watch();
    this.#emit("frame", { direction: "in", event, data, id: id ?? null, bytes });
    if (event === "connected") this.#greeted(data);
    else if (event === "subscribed") this.#subscribed(data);
    else if (event === "metrics_update") this.#full(data, bytes);
    else if (event === "metrics_patch") this.#patch(data, bytes);
    else if (event === "heartbeat") this.#emit("alive", { serverTime: data?.server_time ?? null });
    else if (event === "bye") { this.bye = data; this.#emit("notice", { kind: "bye", data }); }
    else if (["lag", "auth", "error", "token_refreshed"].includes(event)) this.#emit("notice", { kind: event, data });
    if (id !== undefined && id !== null) {
      this.awaited.get(id)?.({ event, data });
      this.awaited.delete(id);
    }
    // SSE: the server closes after `bye`, but a proxy may keep the response open
    if (event === "bye" && !this.transport?.duplex) this.transport?.close(data?.code ?? 1006, data?.reason ?? "");
  }

  /** @param {any} data */
  #greeted(data) {
    this.connected = data;
    if (typeof data?.heartbeat_interval === "number") this.heartbeat = data.heartbeat_interval;
    this.#watch();
    this.#enter({ phase: "live", retryAt: null, reason: null, code: null });
    this.#emit("connected", data);
    if (this.wanted && this.transport?.duplex) void this.subscribe();
  }

  /** The server may serve another window than asked (clamped, or too many in use), and says which. @param {any} data */
  #subscribed(data) {
    this.moving = false;
    if (typeof data?.config?.hours === "number") this.hours = data.config.hours;
    this.#emit("subscribed", data);
  }

  /** @param {Snapshot} snapshot @param {number} bytes */
  #full(snapshot, bytes) {
    this.#emit("alive", { serverTime: null });
    if (this.moving && snapshot.hours !== this.hours) return;
    if (snapshot.hours === this.hours) this.snapshot = snapshot;
    this.#emit("snapshot", { snapshot, event: "metrics_update", bytes });
  }

  /** @param {any} data @param {number} bytes */
  #patch(data, bytes) {
    this.#emit("alive", { serverTime: null });
    try {
      if (!this.snapshot || this.snapshot.position !== data.from) throw new PatchError("not our base");
      const { timestamp, position } = data;
      this.snapshot = { ...applyPatch(this.snapshot, data.patch), timestamp, position };
      this.#emit("snapshot", { snapshot: this.snapshot, event: "metrics_patch", bytes });
    } catch (error) {
      if (!(error instanceof PatchError)) throw error;
      this.snapshot = null; // no position to resume from: the answer is a full state
      void this.subscribe();
    }
  }

  // -- small things ------------------------------------------------------------------------------

  /** Resume only what this window's state can stand for. */
  #position() {
    return this.snapshot && this.snapshot.hours === this.hours ? this.snapshot.position : null;
  }

  /** A stream silent for 2.5 heartbeats is dead, whatever TCP says. */
  #watch() {
    const transport = this.transport;
    this.#later("silence", SILENCE * this.heartbeat * 1000, () => transport?.close(1006, "The server fell silent."));
  }

  /** @param {string} name @param {number} ms @param {() => void} action */
  #later(name, ms, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, ms);
  }

  /** @param {Partial<ClientState>} change */
  #enter(change) {
    this.state = { ...this.state, ...change };
    this.#emit("state", this.state);
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
