/**
 * The activity feed. It never moves under a reader: while somebody has scrolled into it, points at it, is in it
 * with the keyboard, or has scrolled the page past its head, news waits behind a button that says how much there is.
 */
import { byId, h, icon, part, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import { since } from "./clock.js";
import { emptyNote } from "./empty.js";
import { statusIcon } from "./taskrow.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Activity} Item */

const LEAVING_MS = 4_000;

export class Activity {
  /** @param {(taskId: string) => void} opens */
  constructor(opens) {
    this.opens = opens;
    this.list = byId("activity");
    this.button = byId("activity-new");
    /** @type {Snapshot|null} */
    this.snapshot = null;
    /** @type {Item[]} */
    this.shown = [];
    this.pointed = false;
    this.leftAt = -Infinity; // performance.now()
    // a finger leaves no pointer behind: what it scrolls is told by the scroll position
    this.list.addEventListener("pointerenter", (event) => { this.pointed = event.pointerType === "mouse"; });
    this.list.addEventListener("pointerleave", () => {
      this.pointed = false;
      if (!this.button.hidden) this.leftAt = performance.now(); // perhaps on the way to the button
    });
    this.list.addEventListener("focusout", () => setTimeout(() => this.render()));
    this.list.addEventListener("scroll", () => this.render(), { passive: true });
    addEventListener("scroll", () => { if (!this.button.hidden) this.render(); }, { passive: true });
    this.button.addEventListener("click", () => this.#catchUp());
  }

  /** @param {Snapshot|null} snapshot */
  update(snapshot) {
    this.snapshot = snapshot;
    this.render();
  }

  get #read() {
    if (this.shown.length === 0) return false;
    return this.pointed || performance.now() - this.leftAt < LEAVING_MS || this.list.scrollTop > 4 || this.list.matches(":focus-visible, :has(:focus-visible)")
      || this.list.getBoundingClientRect().top < 0;
  }

  #catchUp() {
    this.pointed = false;
    this.leftAt = -Infinity;
    this.list.scrollTop = 0;
    if (this.list.getBoundingClientRect().top < 0) this.list.parentElement?.scrollIntoView({ block: "start" });
    this.button.blur();
    this.render(true);
  }

  render(always = false) {
    const items = this.snapshot?.activity ?? [];
    const hold = !always && this.#read && this.snapshot !== null;
    const known = new Set(this.shown.map(name));
    const fresh = hold ? items.filter((item) => !known.has(name(item))).length : 0;
    show(this.button, fresh > 0);
    if (fresh) setText(this.button, `${fresh === items.length ? `${fresh}+` : fresh} new`);
    if (hold) return;
    emptyNote(byId("activity-empty"), items.length === 0, this.snapshot, "Nothing has happened yet.");
    this.shown = items;
    reconcile(this.list, items, (item, index) => `${name(item)} ${twin(items, index)}`, () => this.#row(), fill);
  }

  #row() {
    const link = h("button", { type: "button", class: "link id", "data-field": "task_id",
      on: { click: () => this.opens(link.dataset.taskId ?? "") } });
    return h("li", {}, h("span", { class: "glyph" }, icon("unknown"), h("span", { class: "hidden-text", "data-field": "kind" })),
      h("span", { class: "what" }, h("span", { "data-field": "description" }), " ", link),
      h("time", { class: "num muted", "data-field": "timestamp" }));
  }
}

/** @param {HTMLElement} row @param {Item} item */
function fill(row, item) {
  row.dataset.kind = item.kind;
  setAttr(row, "data-status", item.status);
  const failed = item.kind === "tool" && item.status === "failed";
  setIcon(row, item.kind === "tool" ? (failed ? "failed" : "tool")
    : item.kind === "session" ? "session" : statusIcon(item.status === "created" ? "pending" : item.status ?? ""));
  setText(part(row, "kind"), `${item.kind}${item.status ? ` ${item.status}` : ""}:`);
  setText(part(row, "description"), failed ? `${item.description} failed` : item.description);
  part(row, "description").title = item.description;
  const id = item.task_id ?? "";
  const link = part(row, "task_id");
  setText(link, id.length > 12 ? id.slice(0, 8) : id); // a session's UUID would fill the line
  show(link, id !== "");
  link.title = id;
  link.dataset.taskId = id;
  since(part(row, "timestamp"), item.timestamp, "age");
}

/** @param {Item} item */
function name(item) {
  return `${item.timestamp} ${item.kind} ${item.task_id} ${item.description}`;
}

/** Two events may be equal in every field: number them. @param {Item[]} items @param {number} index */
function twin(items, index) {
  const own = items[index];
  let count = 0;
  for (let i = index + 1; i < items.length && items[i].timestamp === own.timestamp; i += 1) count += 1;
  return count;
}
