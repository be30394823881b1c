/**
 * Time as the server has it, and everything on the page that grows older without news.
 *
 * An element with `data-since` (epoch seconds) shows the time since then and is moved on once a second; `data-age` says
 * how: `age` one unit, `duration` two units, `ago` "3 m ago", `fresh` like `ago` but "just now" below 5 s.
 */
import { age, duration, stamp, UNKNOWN } from "./format.js";
import { setText } from "./dom.js";

let offset = Date.now() / 1000 - elapsed(); // the server's clock minus ours, seconds
let synced = false;

/** A clock that nobody sets: the device's own may jump while the page is open. @returns {number} seconds */
function elapsed() {
  return performance.now() / 1000;
}

/** A clock reading of the server that has just arrived. @param {number} serverTime epoch seconds */
export function sync(serverTime) {
  offset = serverTime - elapsed();
  synced = true;
}

/** A time that is not in the future of the server: the weaker evidence until a heartbeat comes. @param {number} epoch */
export function notBefore(epoch) {
  if (!synced || epoch > now()) offset = epoch - elapsed();
  synced = true;
}

/** @returns {number} epoch seconds on the server's clock */
export function now() {
  return elapsed() + offset;
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
