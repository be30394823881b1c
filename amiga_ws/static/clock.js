/**
 * Time as the server has it, and everything on the page that grows older without news.
 *
 * An element with `data-since` (epoch seconds) shows the time since then and is moved on once a second; `data-age` says
 * how: `age` one unit, `duration` two units, `ago` "3 m ago", `fresh` like `ago` but "just now" below 5 s.
 */
import { age, duration, stamp, UNKNOWN } from "./format.js";
import { setText } from "./dom.js";
import { instant, past } from "./elapsed.js";

const AGREE_S = 1; // our clocks do, while this device is awake and nobody sets one

let base = Date.now() / 1000; // the server's clock, epoch seconds, when it was last heard
let heard = instant();
let synced = false;

/** A clock reading of the server that has just arrived. @param {number} serverTime epoch seconds */
export function sync(serverTime) {
  base = serverTime;
  heard = instant();
  synced = true;
}

/** A time that is not in the future of the server: the weaker evidence until a heartbeat comes. @param {number} epoch */
export function notBefore(epoch) {
  const awake = base + (performance.now() - heard.at) / 1000;
  sync(synced && now() - awake < AGREE_S ? Math.max(epoch, awake) : epoch);
}

/** @returns {number} epoch seconds on the server's clock */
export function now() {
  return base + past(heard);
}

/**
 * @param {HTMLElement} element @param {number|null|undefined} epoch
 * @param {'age'|'duration'|'ago'|'fresh'} style
 */
export function since(element, epoch, style) {
  if (epoch === null || epoch === undefined) {
    delete element.dataset.since;
    element.removeAttribute("title");
    setText(element, UNKNOWN);
    return;
  }
  if (element.dataset.since !== String(epoch)) {
    element.dataset.since = String(epoch);
    element.dataset.age = style;
    element.title = stamp(epoch);
  }
  write(element, now());
}

/** @param {HTMLElement} element @param {number} at */
function write(element, at) {
  const seconds = at - Number(element.dataset.since);
  const style = element.dataset.age;
  if (style === "duration") setText(element, duration(seconds));
  else if (style === "age") setText(element, age(seconds));
  else if (style === "fresh" && seconds < 5) setText(element, "just now");
  else setText(element, `${age(seconds)} ago`);
}

/** Move every ticking element on; called once a second. */
export function tick() {
  const at = now();
  for (const element of document.querySelectorAll("[data-since]")) write(/** @type {HTMLElement} */ (element), at);
}
