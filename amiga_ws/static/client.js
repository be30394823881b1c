/**
 * The live connection of a page: one stream of snapshots, by WebSocket, else SSE, else polling, that finds its way
 * back by itself and says at every moment what it is doing. docs/client.md shows its use, also from another page and
 * from Node.
 *
 *     const client = new LiveClient({ hours: 24, interval: 2 });
 *     client.addEventListener("snapshot", (event) => show(event.detail.snapshot));
 *     client.addEventListener("state", (event) => tell(event.detail));
 *     client.start();
 *
 * Events (all CustomEvent; `detail`):
 *   state     ClientState: phase, transport, retryAt, reason, code, attempt, refused
 *   snapshot  {snapshot, event: "metrics_update"|"metrics_patch", bytes}
 *   connected the data of the server's `connected`; `subscribed` likewise
 *   alive     {serverTime: number|null} any sign of life
 *   notice    {kind: "lag"|"auth"|"error"|"bye"|"token_refreshed", data}
 *   frame     {direction: "in"|"out", event, data, id, bytes} every frame, for the test page
 *
 * Coming back (docs/protocol.md, close codes): 4000-4499 return after the server's `bye.retry_ms`, 4500-4999 stop;
 * anything else returns after 0.5-20 s with full jitter. A refused handshake is a bare 1006 in a browser, so the
 * client asks `GET /api/session` why: 401 is "signed out" and ends the attempts; a working session whose WebSocket
 * brings nothing twice (a proxy that drops upgrades) moves one transport down and tries WebSocket again every minute.
 */
import { askedMs, backoffMs, meaning, sentence } from "./closing.js";
import { past } from "./elapsed.js";
import { Ladder } from "./ladder.js";
import { Mirror, MirrorError } from "./mirror.js";
import { PollTransport, SseTransport, WebSocketTransport, address, bearer } from "./transports.js";
import { Requests } from "./requests.js";
import { Watchdog } from "./watchdog.js";
import { askWhy } from "./why.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').ClientState} ClientState */
/** @typedef {import('./types.js').TransportEnd} TransportEnd */
/** @typedef {import('./types.js').Answer} Answer */
/** @typedef {import('./ladder.js').Kind} Kind */

const UPGRADE_MS = 60_000;
const SETTLED_MS = 5_000; // a stream that lives this long has earned a fresh backoff
const ANSWER_MS = 10_000;
/** @type {Kind[]} */
const KINDS = ["ws", "sse", "poll"];
const TRANSPORTS = { ws: WebSocketTransport, sse: SseTransport, poll: PollTransport };
const GREETINGS = new Set(["connected", "bye"]);
const NOTICES = new Set(["lag", "auth", "error", "bye", "token_refreshed"]);

export class LiveClient extends EventTarget {
  /**
   * @param {object} [options]
   * @param {string} [options.base]       origin of the server; default: the page's own
   * @param {string|null} [options.token] for a page of another origin, or none; default: the session cookie
   * @param {number} [options.hours]      window, 1-168
   * @param {number} [options.interval]   seconds between updates, 1-60
   * @param {boolean} [options.delta]     ask for `metrics_patch` instead of full updates
   * @param {boolean} [options.subscribe] subscribe as soon as connected (default true)
   * @param {Kind[]} [options.transports] in the order to try
   * @param {any} [options.WebSocket]     a constructor, where there is no global one (Node before 22: package `ws`)
   */
  constructor(options = {}) {
    super();
    this.base = options.base ?? "";
    this.token = options.token ?? null;
    this.hours = options.hours ?? 24;
    this.interval = options.interval ?? 2;
    this.delta = options.delta ?? false;
    this.wanted = options.subscribe ?? true;
    this.Socket = options.WebSocket ?? globalThis.WebSocket;
    this.ladder = new Ladder((options.transports ?? KINDS).filter((kind) => kind !== "ws" || this.Socket));
    /** The last `connected` data. @type {any} */
    this.connected = null;
    /** @type {ClientState} */
    this.state = { phase: "idle", transport: this.ladder.kind, retryAt: null, reason: null, code: null, attempt: 0, refused: false };

    this.mirror = new Mirror();
    /** @type {WebSocketTransport|SseTransport|PollTransport|null} */
    this.transport = null;
    /** A second WebSocket, while a lower transport is at work. @type {WebSocketTransport|null} */
    this.probe = null;
    this.requests = new Requests();
    this.moving = 0; // subscribes under way: updates of the old window, patches of the old base may still arrive
    this.turn = 0; // moves whenever a stream is let go, so that late answers know they are late
    this.watchdog = new Watchdog(
      () => { this.watchdog.asked(); this.wake(); },
      () => this.transport?.close(1006, "The server fell silent."),
    );
    /** The last `bye` of this stream. @type {any} */
    this.bye = null;
    /** @type {Record<string, ReturnType<typeof setTimeout>|undefined>} */
    this.timers = {};
  }

  // -- what a page may do ------------------------------------------------------------------------

  /** The newest state. @returns {Snapshot|null} */
  get snapshot() {
    return this.mirror.snapshot;
  }

  /** Connect, or try again at once: also the way out of `signedout` and `stopped`. */
  start() {
    this.#drop();
    this.ladder.worked();
    this.#open();
  }

  /** Hang up and stay away until `start`. */
  stop() {
    this.#drop();
    this.#enter({ phase: "idle", retryAt: null, reason: null, code: null, attempt: 0 });
  }

  /** Forget the state: the next one comes whole. */
  forget() {
    this.mirror.clear();
  }

  /** Another window; the state of it follows. @param {number} hours */
  setHours(hours) {
    if (hours === this.hours) return;
    this.hours = hours;
    if (this.wanted) void this.subscribe();
  }

  /** @param {number} seconds 1-60 @returns {Promise<Answer|null>} */
  setInterval(seconds) {
    if (seconds === this.interval) return Promise.resolve(null);
    this.interval = seconds;
    if (!this.transport?.duplex) return this.#reopen();
    return this.connected && this.wanted ? this.request("set_interval", { interval: seconds }) : Promise.resolve(null);
  }

  /** (Re-)subscribe with the current window and interval. @returns {Promise<Answer|null>} */
  async subscribe() {
    this.wanted = true;
    if (!this.transport?.duplex) return this.#reopen();
    /** @type {Record<string, any>} */
    const data = { hours: this.hours, update_interval: this.interval };
    if (this.delta) data.delta = true;
    const resume = this.mirror.position(this.hours);
    if (resume) data.resume = resume;
    const turn = this.turn;
    this.moving += 1;
    const answer = await this.request("subscribe", data);
    if (answer?.event !== "subscribed" && turn === this.turn) this.moving -= 1;
    return answer;
  }

  /** @returns {Promise<Answer|null>} */
  unsubscribe() {
    this.wanted = false;
    return this.request("unsubscribe");
  }

  /** Ask for the newest state now. @returns {Promise<Answer|null>} */
  async refresh() {
    if (this.transport?.duplex) return this.request("request_refresh");
    const url = address("/api/metrics/overview", this.base);
    url.searchParams.set("hours", String(this.hours));
    const turn = this.turn;
    try {
      const response = await fetch(url, {
        headers: bearer(this.token), cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS),
      });
      if (response.ok && turn === this.turn) this.#full(await response.json(), 0);
    } catch {
      // the stream will tell what is wrong
    }
    return null;
  }

  /**
   * A new token for the same subject, where the page has no session: the stream goes on with it.
   * @param {string} token @returns {Promise<Answer|null>}
   */
  renew(token) {
    this.token = token;
    if (this.connected && this.transport?.duplex) return this.request("refresh_token", { token });
    this.start();
    return Promise.resolve(null);
  }

  /**
   * This device may have slept or changed its network: do not sit out a countdown, and do not trust a stream that has
   * been silent for a while.
   */
  wake() {
    if (this.state.phase === "waiting") this.start();
    else if (this.state.phase === "live" && this.transport?.duplex) {
      void this.refresh();
      this.watchdog.asked();
    } else if (this.state.phase === "live" && past(this.watchdog.last) > this.watchdog.heartbeatS) {
      void this.#reopen();
    }
  }

  /**
   * Send a frame and wait for its answer (an `error` is an answer too); null when it could not be sent or none came.
   * @param {string} event @param {object} [data] @returns {Promise<Answer|null>}
   */
  request(event, data) {
    return this.requests.ask(event, data, (frame) => {
      const bytes = this.transport?.send(frame) ?? 0;
      const shown = event === "refresh_token" ? { token: "…" } : data ?? null;
      if (bytes) this.#emit("frame", { direction: "out", event, data: shown, id: frame.id, bytes });
      return bytes > 0;
    });
  }

  // -- opening and losing a stream ---------------------------------------------------------------

  #open() {
    const { kind } = this.ladder;
    this.bye = null;
    this.#enter({ phase: "connecting", transport: kind, retryAt: null });
    /** @type {any} */
    let own = null;
    const current = () => this.transport === own;
    own = new TRANSPORTS[kind](this.#query(), {
      open: () => { if (current()) this.#opened(); },
      message: (frame, bytes) => { if (current()) this.#frame(frame, bytes); },
      close: (end) => { if (current()) void this.#lost(end); },
    });
    this.transport = own;
  }

  #query() {
    const { base, token, hours, interval, delta, Socket } = this;
    return { base, token, hours, interval, delta, Socket, resume: this.mirror.position(hours) };
  }

  #opened() {
    this.ladder.worked();
    this.watchdog.heard();
    this.#later("settle", SETTLED_MS, () => { this.state = { ...this.state, attempt: 0 }; });
    if (this.ladder.below) this.#later("upgrade", UPGRADE_MS, () => this.#tryUpgrade());
    // the two streams count as live with `connected`, polling with its first answer
    if (this.transport?.kind === "poll") this.#enter({ phase: "live", retryAt: null, reason: null, code: null });
  }

  /** On a lower transport: does WebSocket work by now? The present stream goes on until it does. */
  #tryUpgrade() {
    const works = () => {
      this.#drop();
      this.ladder.top();
      this.#open();
    };
    this.probe = new WebSocketTransport(this.#query(), {
      open: works,
      message: () => {},
      close: () => this.#later("upgrade", UPGRADE_MS, () => this.#tryUpgrade()),
    });
  }

  /** @param {TransportEnd} end */
  async #lost(end) {
    const bye = this.bye;
    this.#drop();
    const code = Number.isInteger(bye?.code) ? bye.code : end.code;
    const words = sentence(code, bye?.reason || end.reason);
    const serverMs = askedMs(bye?.retry_ms ?? end.retryMs);
    const next = end.status === 401 ? "signin" : meaning(code);
    if (next === "signin") this.#halt("signedout", words, code, end.refused);
    else if (next === "stop") this.#halt("stopped", words, code);
    else if (next === "return") this.#wait(serverMs, words, code);
    else {
      this.#enter({ phase: "waiting", retryAt: null, reason: words, code });
      const turn = this.turn;
      const why = await askWhy(this.base, this.token);
      if (turn !== this.turn) return; // the page moved on meanwhile
      if (why.status === 401) this.#halt("signedout", code === 4003 ? words : why.reason, code, why.refused);
      else if (why.status === 403 || why.status === 421) this.#halt("stopped", why.reason, code);
      else {
        if (why.status === 200 && !end.opened && this.ladder.failed()) this.state = { ...this.state, attempt: 0 };
        this.#wait(askedMs(why.retryMs) ?? serverMs, why.reason || words, code);
      }
    }
  }

  /** @param {number|null} serverMs @param {string} reason @param {number} code */
  #wait(serverMs, reason, code) {
    const attempt = this.state.attempt + 1;
    const ms = serverMs ?? backoffMs(attempt);
    this.#enter({ phase: "waiting", transport: this.ladder.kind, retryAt: performance.now() + ms, reason, code, attempt });
    this.#later("retry", ms, () => this.#open());
  }

  /** @param {'signedout'|'stopped'} phase @param {string} reason @param {number} code @param {boolean} [refused] */
  #halt(phase, reason, code, refused = false) {
    if (code === 4503) this.mirror.clear(); // signed out on purpose: nothing of it stays
    this.#enter({ phase, retryAt: null, reason, code, attempt: 0, refused });
  }

  /** @returns {Promise<null>} */
  #reopen() {
    if (this.transport) {
      this.#drop();
      this.#open();
    }
    return Promise.resolve(null);
  }

  /** Let go of the present stream without hearing of its end. */
  #drop() {
    const old = this.transport;
    this.transport = null;
    this.connected = null;
    this.moving = 0;
    this.turn += 1;
    const { probe } = this;
    this.probe = null;
    probe?.close();
    this.watchdog.stop();
    for (const name of Object.keys(this.timers)) clearTimeout(this.timers[name]);
    this.requests.drop();
    old?.close(1000, "");
  }

  // -- frames ------------------------------------------------------------------------------------

  /** @param {{event: string, data: any, id?: any}} frame @param {number} bytes */
  #frame(frame, bytes) {
    const { event, data, id } = frame;
    this.watchdog.heard();
    this.#emit("frame", { direction: "in", event, data, id: id ?? null, bytes });
    if (!this.connected && !GREETINGS.has(event) && this.transport?.kind !== "poll") {
      this.transport?.close(1002, "What answers there is no amiga_ws.");
    } else if (event === "connected") this.#greeted(data);
    else if (event === "subscribed") this.#subscribed(data);
    else if (event === "metrics_update") this.#full(data, bytes);
    else if (event === "metrics_patch") this.#patch(data, bytes);
    else if (event === "heartbeat") this.#emit("alive", { serverTime: Number.isFinite(data?.server_time) ? data.server_time : null });
    else if (NOTICES.has(event)) {
      if (event === "bye") this.bye = data;
      this.#emit("notice", { kind: event, data });
    }
    this.requests.answered(frame);
    // SSE: the server closes after `bye`, but a proxy may keep the response open
    if (event === "bye" && !this.transport?.duplex) this.transport?.close(1006, "");
  }

  /** @param {any} data */
  #greeted(data) {
    if (this.connected) return;
    this.connected = data ?? {};
    this.watchdog.beats(data?.heartbeat_interval);
    this.watchdog.heard();
    this.#enter({ phase: "live", retryAt: null, reason: null, code: null });
    this.#emit("connected", data);
    if (this.wanted && this.transport?.duplex) void this.subscribe();
  }

  /** The server may serve another window than asked (clamped, or too many in use), and says which. @param {any} data */
  #subscribed(data) {
    this.moving = Math.max(0, this.moving - 1);
    const hours = data?.config?.hours;
    if (!this.moving && Number.isFinite(hours)) this.hours = hours;
    this.#emit("subscribed", data);
  }

  /** @param {any} data @param {number} bytes */
  #full(data, bytes) {
    if (this.moving && data?.hours !== this.hours) return;
    this.#state("metrics_update", bytes, () => this.mirror.full(data, this.hours));
  }

  /** @param {any} data @param {number} bytes */
  #patch(data, bytes) {
    if (this.moving) return; // the answer under way stands on the position we named
    this.#state("metrics_patch", bytes, () => this.mirror.patch(data));
  }

  /** What does not fit is answered by asking for the whole; a whole that makes no sense ends the stream. @param {string} event @param {number} bytes @param {() => Snapshot} made */
  #state(event, bytes, made) {
    let snapshot;
    try {
      snapshot = made();
    } catch (error) {
      if (!(error instanceof MirrorError)) throw error;
      if (event === "metrics_update") this.transport?.close(1007, "The server sent a state that makes no sense.");
      else {
        this.mirror.clear();
        void this.subscribe();
      }
      return;
    }
    this.#emit("alive", { serverTime: null });
    this.#emit("snapshot", { snapshot, event, bytes });
  }

  // -- small things ------------------------------------------------------------------------------

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
