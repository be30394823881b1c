/**
 * Which transport to use: the first that works. A session that is good and a transport that brings nothing twice (a
 * proxy that drops upgrades, one that keeps event streams to itself) means the next one.
 */

/** @typedef {'ws'|'sse'|'poll'} Kind */

const PATIENCE = 2;

export class Ladder {
  /** @param {Kind[]} kinds in the order to try */
  constructor(kinds) {
    this.kinds = kinds;
    this.rung = 0;
    this.failures = 0; // in a row, on this rung
  }

  /** @returns {Kind} */
  get kind() {
    return this.kinds[this.rung];
  }

  /** Whether WebSocket is wanted and something else is at work. */
  get below() {
    return this.rung > 0 && this.kinds[0] === "ws";
  }

  worked() {
    this.failures = 0;
  }

  /** @returns {boolean} whether there is another way, not tried yet */
  failed() {
    this.failures += 1;
    if (this.failures < PATIENCE) return false;
    this.failures = 0;
    // from the last rung back to the first: whatever the trouble is, it is not one transport's
    this.rung = (this.rung + 1) % this.kinds.length;
    return this.rung > 0;
  }

  top() {
    this.rung = 0;
    this.failures = 0;
  }
}
