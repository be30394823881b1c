/**
 * The host while a task ran: its charts in the drawer, drawn anew when the task has ended, and now and then before.
 */
import { byId, h, setText, show } from "./dom.js";
import { now } from "./clock.js";

/** @typedef {import('./types.js').Task} Task */
/** @typedef {(container: HTMLElement, from: number, to: number|null) => Promise<() => void>} Draw  what comes back ends the charts */

const EVERY_S = 60; // while the task runs
const LEAST_S = 120; // a shorter time shows nothing

export class HostCharts {
  /** @param {Draw} draw */
  constructor(draw) {
    this.draw = draw;
    this.container = byId("drawer-host-charts");
    this.key = ""; // of which task and time they are
    /** @type {() => void} */
    this.end = () => {};
  }

  /** @param {Task|null} task null: none */
  show(task) {
    const key = !task || task.created_at === null || task.status === "pending" ? ""
      : `${task.task_id} ${task.ended_at ?? Math.floor(now() / EVERY_S)}`;
    show(byId("drawer-host"), key !== "");
    if (key === this.key) return;
    this.key = key;
    if (key && task) void this.#draw(task, key);
    else this.#replace(null, () => {});
  }

  /** @param {Task} task @param {string} key */
  async #draw(task, key) {
    const from = task.created_at ?? 0;
    const until = task.ended_at ?? now();
    const margin = Math.max(0, (LEAST_S - (until - from)) / 2);
    const holder = h("div");
    this.container.append(holder); // what was drawn before stays until this is there
    let end = () => {};
    try {
      end = await this.draw(holder, Math.floor(from - margin), task.ended_at === null ? null : Math.ceil(until + margin));
    } catch {
      setText(holder, "The history does not answer.");
    }
    if (this.key === key) this.#replace(holder, end);
    else end();
  }

  /** @param {HTMLElement|null} holder @param {() => void} end */
  #replace(holder, end) {
    this.end();
    this.end = end;
    for (const old of [...this.container.children]) if (old !== holder) old.remove();
  }
}
