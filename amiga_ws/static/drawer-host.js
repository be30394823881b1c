/**
 * The host while a task ran: its charts in the drawer, brought up to date when the task has ended, and now and then before.
 */
import { byId, h, setText, show } from "./dom.js";
import { now } from "./clock.js";

/** @typedef {import('./types.js').Task} Task */
/** @typedef {{feed: (from: number, to: number|null) => Promise<void>, end: () => void}} Drawn  charts that another time is put into, and ended */
/** @typedef {(container: HTMLElement, from: number, to: number|null) => Promise<Drawn>} Draw */

const EVERY_S = 60; // while the task runs
const LEAST_S = 120; // a shorter time shows nothing

export class HostCharts {
  /** @param {Draw} draw */
  constructor(draw) {
    this.draw = draw;
    this.container = byId("drawer-host-charts");
    this.key = ""; // of which task and time they are
    this.id = ""; // the task of what is drawn
    /** @type {Drawn|null} */
    this.drawn = null;
  }

  /** @param {Task|null} task null: none */
  show(task) {
    const key = !task || task.created_at === null || task.status === "pending" ? ""
      : `${task.task_id} ${task.ended_at ?? Math.floor(now() / EVERY_S)}`;
    show(byId("drawer-host"), key !== "");
    if (key === this.key) return;
    this.key = key;
    if (!key || !task) this.#replace(null, null, "");
    // an open table, the focus in it and the place of the page stay as they are
    else if (this.drawn && this.id === task.task_id) this.drawn.feed(...timeOf(task)).catch(() => {});
    else void this.#draw(task, key);
  }

  /** @param {Task} task @param {string} key */
  async #draw(task, key) {
    const holder = h("div");
    this.container.append(holder); // what was drawn before stays until this is there
    /** @type {Drawn|null} */
    let drawn = null;
    try {
      drawn = await this.draw(holder, ...timeOf(task));
    } catch {
      setText(holder, "The history does not answer.");
    }
    if (this.key === key) this.#replace(holder, drawn, task.task_id);
    else drawn?.end();
  }

  /** @param {HTMLElement|null} holder @param {Drawn|null} drawn @param {string} id */
  #replace(holder, drawn, id) {
    this.drawn?.end();
    this.drawn = drawn;
    this.id = id;
    for (const old of [...this.container.children]) if (old !== holder) old.remove();
  }
}

/** @param {Task} task @returns {[number, number|null]} from, to; null: until now */
function timeOf(task) {
  const from = task.created_at ?? 0;
  const until = task.ended_at ?? now();
  const margin = Math.max(0, (LEAST_S - (until - from)) / 2);
  return [Math.floor(from - margin), task.ended_at === null ? null : Math.ceil(until + margin)];
}
