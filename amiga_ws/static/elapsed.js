/**
 * How long ago something was, also when this device has slept since. `performance.now()` stands still meanwhile on
 * Android, macOS and Linux, `Date.now()` may be set: the longer of the two counts. A clock that is set forward makes
 * things look older until the server speaks again, which is better than old things that look new.
 */

/** @typedef {{at: number, wall: number}} Instant ms, by either clock */

/** @returns {Instant} */
export function instant() {
  return { at: performance.now(), wall: Date.now() };
}

/** @param {Instant} then @returns {number} seconds */
export function past(then) {
  return Math.max(performance.now() - then.at, Date.now() - then.wall) / 1000;
}
