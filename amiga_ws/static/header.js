/**
 * The sticky header and the banner: verdict, age of the data, connection, who am I.
 */
import { byId, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { instant, past } from "./elapsed.js";
import { signInPage } from "./session.js";
import { verdict } from "./verdict.js";

/** @typedef {import('./types.js').ClientState} ClientState */
/** @typedef {import('./types.js').Snapshot} Snapshot */

/** A loss shorter than this is nobody's business. */
const LOST_AFTER_S = 5;
/** The server breaks every silence before, and so does polling: values this old are from before a sleep, say. */
const OLD_AFTER_S = 40;

const TRANSPORTS = { ws: "WebSocket", sse: "SSE", poll: "polling" };

export class Header {
  /** @param {() => ClientState} state @param {() => void} retry */
  constructor(state, retry) {
    this.state = state;
    /** @type {Snapshot|null} */
    this.snapshot = null;
    /** When the last byte came that proved the values current. @type {import('./elapsed.js').Instant|null} */
    this.lastSign = null;
    /** When the stream was lost; null while it lives. @type {import('./elapsed.js').Instant|null} */
    this.lostAt = instant();
    const act = () => (this.state().phase === "signedout" ? toSignIn() : retry());
    for (const button of document.querySelectorAll("[data-retry]")) button.addEventListener("click", act);
    const top = /** @type {HTMLElement} */ (document.querySelector(".top"));
    // the banner sticks below the header, whose height depends on width and zoom
    new ResizeObserver(() => document.body.style.setProperty("--top", `${top.offsetHeight}px`)).observe(top);
    byId("menu").addEventListener("beforetoggle", () => {
      document.body.style.setProperty("--menu-top", `${byId("who").getBoundingClientRect().bottom + 6}px`);
    });
  }

  /** The stream has spoken: what is on the page is what the server knows. */
  alive() {
    this.lastSign = instant();
  }

  connection() {
    const { phase } = this.state();
    if (phase === "live") this.lostAt = null;
    else this.lostAt ??= instant();
    this.render();
  }

  /** Gone long enough to say so, or for good. */
  get lost() {
    const { phase } = this.state();
    if (phase === "signedout" || phase === "stopped") return true;
    return this.lostAt !== null && past(this.lostAt) >= LOST_AFTER_S;
  }

  get #old() {
    return this.lastSign ? `Values are ${format.duration(past(this.lastSign))} old.` : "No values yet.";
  }

  /** Lost, or old all the same: a stream that lives has a moment to answer before the banner says more. */
  get stale() {
    return this.lost || (this.lastSign !== null && past(this.lastSign) >= OLD_AFTER_S);
  }

  /** The banner in one sentence; null while there is nothing to say. */
  get warning() {
    if (!this.lost) return null;
    return `Connection lost. ${this.#old}`;
  }

  /** Everything here; cheap enough for five times a second, and it writes only what differs. */
  render() {
    const state = this.state();
    const lost = this.lost;
    const { stale } = this;
    this.#verdict(stale);
    this.#connection(state);
    this.#age();
    this.#banner(state, lost);
    setAttr(document.body, "data-lost", stale ? "" : null);
  }

  /** @param {boolean} stale */
  #verdict(stale) {
    const { word, level, reason } = verdict(this.snapshot, stale);
    const element = byId("verdict");
    setAttr(element, "data-verdict", level);
    setIcon(element, `verdict-${level}`);
    setText(/** @type {Element} */ (element.querySelector(".word")), word);
    setText(byId("verdict-reason"), reason);
    const count = this.snapshot?.attention.length ?? 0;
    const title = `${count ? `(${count}) ` : ""}${word} · amiga`;
    if (document.title !== title) document.title = title;
  }

  /** @param {ClientState} state */
  #connection(state) {
    const element = byId("connection");
    setAttr(element, "data-state", state.phase);
    setAttr(element, "data-transport", state.transport);
    element.title = TRANSPORTS[state.transport];
    setText(/** @type {Element} */ (element.querySelector(".word")), connectionWords(state));
    setText(/** @type {Element} */ (element.querySelector(".transport")), state.phase === "live" ? TRANSPORTS[state.transport] : "");
  }

  #age() {
    const element = byId("data-age");
    if (!this.lastSign) {
      setText(element, format.UNKNOWN);
      return;
    }
    setText(element, format.freshAge(past(this.lastSign)));
  }

  /** @param {ClientState} state @param {boolean} lost */
  #banner(state, lost) {
    const banner = byId("banner");
    const signedOut = state.phase === "signedout";
    show(banner, lost);
    show(byId("signin-panel"), signedOut);
    if (signedOut) {
      setText(byId("signedout-reason"), state.reason ?? "");
      setAttr(byId("signin-page"), "href", signInPage());
    }
    if (banner.hidden) return;
    const over = signedOut ? "Signed out." : state.phase === "stopped" ? "This page has stopped." : null;
    setText(byId("banner-title"), over ?? "Connection lost.");
    setText(byId("banner-text"), `${state.reason ?? ""} ${this.#old}`.trim());
    setText(byId("banner-next"), over ? "" : countdown(state));
    setText(/** @type {Element} */ (banner.querySelector("[data-retry]")), signedOut ? "Sign in" : "Try now");
  }

  /** @param {import('./session.js').Session|null} session */
  who(session) {
    setText(byId("who-name"), session?.subject ?? "signed out");
    setText(byId("who-subject"), session?.subject ?? format.UNKNOWN);
    setText(byId("who-scopes"), session ? session.scopes.join(", ") || "none" : format.UNKNOWN);
    show(byId("admin-link"), Boolean(session?.scopes.includes("admin")));
    // by this device's clock, which is what the person looks at; "in 8 h" would stand there until the next renewal
    const now = Date.now() / 1000;
    const ends = session ? now + session.expires_in : null;
    setText(byId("who-expires"), format.moment(ends, now));
    byId("who-expires").title = format.known(ends) ? format.stamp(ends) : "";
  }
}

/** Only on request: who is reading further down keeps the place and the focus. */
function toSignIn() {
  byId("signin-panel").scrollIntoView({ block: "center" }); // the header would cover its beginning
  byId("signin-panel-token").focus({ preventScroll: true });
}

/** @param {ClientState} state */
function connectionWords(state) {
  if (state.phase === "live") return "live";
  if (state.phase === "signedout") return "signed out";
  if (state.phase === "stopped" || state.phase === "idle") return "stopped";
  if (!navigator.onLine) return "offline";
  if (state.phase === "waiting" && state.retryAt !== null) return `reconnecting in ${seconds(state.retryAt)}${"\u00a0"}s`;
  return state.attempt || state.code ? "reconnecting …" : "connecting …";
}

/** @param {ClientState} state */
function countdown(state) {
  if (!navigator.onLine) return "This device is offline.";
  return state.retryAt === null ? "Trying now …" : `Next try in ${seconds(state.retryAt)}${"\u00a0"}s.`;
}

/** @param {number} retryAt */
function seconds(retryAt) {
  return Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
}
