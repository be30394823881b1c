/**
 * Tasks beyond the 50 that the stream carries: `/api/tasks` for the present filter and order, page by page,
 * again every few seconds.
 */

/** @typedef {import('./types.js').Task} Task */
/** @typedef {{status: string, words: string, sort: string}} View */

const PAGE_SIZE = 50;
export const MAX_PAGES = 10;
const EVERY_MS = 5_000; // and page
const TYPING_MS = 200; // typing is not a request a letter

export class OlderTasks {
  /** @param {() => void} arrived there are other tasks than before, or there was no answer */
  constructor(arrived) {
    this.arrived = arrived;
    this.pages = 1;
    /** @type {Task[]} */
    this.tasks = [];
    /** How many match in all; null until it is known. @type {number|null} */
    this.total = null;
    /** Whether the server has said what matches. @type {'asking'|'failed'|'known'} */
    this.state = "asking";
    this.key = ""; // of the view that `tasks` and `total` belong to
    this.asked = ""; // view and pages that were asked for last
    this.at = 0; // performance.now() of that
    this.timer = 0;
  }

  /** Have the tasks of this view, soon; what is known of another is forgotten. @param {View} view */
  want(view) {
    const key = parameters(view).toString();
    if (key !== this.key) {
      this.key = key;
      this.tasks = [];
      this.total = null;
      this.state = "asking";
      this.pages = 1;
    }
    const asked = `${key} ${this.pages}`;
    const due = performance.now() - this.at > EVERY_MS * this.pages;
    if (asked === this.asked && !due) return;
    const fresh = asked !== this.asked;
    this.asked = asked;
    this.at = performance.now();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.#fetch(view, asked), fresh && this.tasks.length === 0 ? TYPING_MS : 0);
  }

  more() {
    this.pages = Math.min(MAX_PAGES, this.pages + 1);
  }

  /** @param {View} view @param {string} asked */
  async #fetch(view, asked) {
    /** @type {Task[]} */
    const found = [];
    try {
      for (let page = 1; page <= this.pages; page += 1) {
        const query = parameters(view);
        query.set("page", String(page));
        query.set("page_size", String(PAGE_SIZE));
        const response = await fetch(`/api/tasks?${query}`, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!response.ok) throw new Error(`${response.status}`);
        const answer = await response.json();
        if (this.asked !== asked) return;
        found.push(...answer.tasks);
        this.total = answer.total ?? null;
        if (answer.tasks.length < PAGE_SIZE) break;
      }
      this.tasks = found;
      this.state = "known";
    } catch {
      if (this.asked !== asked) return;
      this.state = "failed"; // the live rows stay; the stream says what is wrong with the connection
    }
    this.arrived();
  }
}

/** The view as the server understands it. @param {View} view */
export function parameters({ status, words, sort }) {
  const query = new URLSearchParams();
  if (status !== "all") query.set("status", status);
  if (words) query.set("search", words);
  if (sort) query.set("sort", sort);
  return query;
}
