/**
 * Frames of ours that are answered: each has an id, and the answer the same.
 */

/** @typedef {import('./types.js').Answer} Answer */

const WITHIN_MS = 10_000;

export class Requests {
  serial = 0;
  /** @type {Map<unknown, (answer: {event: string, data: any}|null) => void>} */
  awaited = new Map();

  /**
   * Send a frame and wait for its answer (an `error` is one too); null when it could not be sent or none came.
   * @param {string} event @param {object|undefined} data
   * @param {(frame: {event: string, data?: object, id: string}) => boolean} send
   * @returns {Promise<Answer|null>}
   */
  ask(event, data, send) {
    const id = `${event}-${++this.serial}`;
    if (!send(data ? { event, data, id } : { event, id })) return Promise.resolve(null);
    const start = performance.now();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle(id, null), WITHIN_MS);
      this.awaited.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer && { ...answer, ms: performance.now() - start });
      });
    });
  }

  /** @param {{event: string, data: any, id?: any}} frame */
  answered({ event, data, id }) {
    this.#settle(id, { event, data });
  }

  /** No answer will come any more. */
  drop() {
    for (const id of [...this.awaited.keys()]) this.#settle(id, null);
  }

  /** @param {unknown} id @param {{event: string, data: any}|null} answer */
  #settle(id, answer) {
    this.awaited.get(id)?.(answer);
    this.awaited.delete(id);
  }
}
