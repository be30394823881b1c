/**
 * Is the stream still there? One that is silent for 2.5 heartbeats is dead, whatever TCP says.
 *
 * A timer that comes late tells of this device, not of the server: it slept, or the tab was frozen, and what has
 * arrived meanwhile waits behind the timer. The stream is then asked, and has a moment to be heard.
 */
import { instant, past } from "./elapsed.js";

const SILENCE = 2.5; // heartbeats
const LATE_MS = 2_000;
const ANSWER_MS = 5_000;
const HEARTBEAT_S = 15; // until the server says otherwise
const HEARTBEAT_MAX_S = 300;

export class Watchdog {
  /** @param {() => void} asleep this device was, so ask for a sign of life @param {() => void} dead */
  constructor(asleep, dead) {
    this.asleep = asleep;
    this.dead = dead;
    this.heartbeatS = HEARTBEAT_S;
    /** The last sign of life. */
    this.last = instant();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
  }

  /** @param {unknown} seconds as `connected` has it */
  beats(seconds) {
    if (typeof seconds === "number" && seconds >= 1 && seconds <= HEARTBEAT_MAX_S) this.heartbeatS = seconds;
  }

  /** Something has come. */
  heard() {
    this.last = instant();
    const ms = SILENCE * this.heartbeatS * 1000;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (past(this.last) * 1000 < ms + LATE_MS) this.dead();
      else this.asleep();
    }, ms);
  }

  /** It was asked: without a sign within 5 s it is dead. */
  asked() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.dead, ANSWER_MS);
  }

  stop() {
    clearTimeout(this.timer);
  }
}
