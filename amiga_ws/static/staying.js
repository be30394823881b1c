/**
 * Stay signed in: while a page is open its session slides, and with it every stream of it (docs/protocol.md).
 *
 * At 80 % of its time by a timer; sooner when the page is put away (a phone in a pocket keeps no timers) and when it
 * is taken out again, so that what is left is nearly always a whole life.
 */
import { instant, past } from "./elapsed.js";
import { renewSession } from "./session.js";

/** @typedef {import('./session.js').Session} Session */

const USED = 0.8; // of its time, before it is renewed
const WORTH = 0.1; // of its time: a glance at the page renews nothing sooner
const AT_LEAST_S = 30; // between two renewals: a session at its very end cannot grow any more
const AGAIN_MS = 5_000; // after no answer

export class Staying {
  /** @param {(session: Session) => void} told after each renewal */
  constructor(told) {
    this.told = told;
    this.life = 0; // s, when it was last known; 0: nobody is signed in, or it is not known yet
    this.knownAt = instant(); // of that
    /** The last renewal. @type {import('./elapsed.js').Instant|null} */
    this.renewedAt = null;
    this.timer = 0;
    this.busy = false;
    for (const event of ["visibilitychange", "pageshow", "online"]) {
      (event === "visibilitychange" ? document : window).addEventListener(event, () => this.perhaps());
    }
  }

  /** Somebody is signed in; what is left of it is known. @param {Session|null} session */
  from(session) {
    clearTimeout(this.timer);
    this.life = session?.expires_in ?? 0;
    this.knownAt = instant();
    if (this.life > 0) this.#in(Math.max(this.life * USED, AT_LEAST_S) * 1000);
  }

  /** Seconds until it ends by itself, as far as is known. */
  get leftS() {
    return this.life - past(this.knownAt);
  }

  /** The server has said that it expires: now, unless that was just done. */
  now() {
    if (this.renewedAt === null || past(this.renewedAt) >= AT_LEAST_S) void this.#renew();
  }

  async #renew() {
    if (this.busy) return;
    this.busy = true;
    try {
      const session = await renewSession();
      this.renewedAt = instant();
      this.from(session);
      if (session) this.told(session);
    } catch {
      this.#in(AGAIN_MS);
    } finally {
      this.busy = false;
    }
  }

  /** Looked at again, or awake again: now, if it is worth it. */
  perhaps() {
    if (this.life && past(this.knownAt) > Math.max(this.life * WORTH, AT_LEAST_S)) void this.#renew();
  }

  /** @param {number} ms */
  #in(ms) {
    clearTimeout(this.timer);
    // setTimeout counts to 2^31 - 1 ms, and would fire at once for more
    this.timer = setTimeout(() => void this.#renew(), Math.min(ms, 2 ** 31 - 1));
  }
}
