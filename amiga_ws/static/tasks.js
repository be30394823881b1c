/**
 * The task table: chips, search, order, keyboard. Rows are those of the stream, and with a filter, an order or
 * "Show more" what `older.js` brings beside them.
 */
import { byId, part, reconcile, setAttr, setText, show } from "./dom.js";
import * as format from "./format.js";
import { MAX_PAGES, OlderTasks, parameters } from "./older.js";
import { STATUSES, durationOf, fillRow, taskRow } from "./taskrow.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Task} Task */

/** What an empty list under a filter says, by what is known of the tasks beyond the stream. */
const NOTHING = { asking: "Searching …", failed: "Older tasks cannot be read now.", known: "No task matches this filter." };
/** A phone shows so many rows until asked for all (tasks.css counts them). */
const PHONE_ROWS = 12;
/** The first click on a heading; the second turns it round, the third goes back to "active first". */
const FIRST = ["status", "description", "model", "agent_type", "-tool_calls", "-tokens", "-cost", "-duration", "-created_at"];
const turned = (/** @type {string} */ sort) => (sort.startsWith("-") ? sort.slice(1) : `-${sort}`);
const SORTS = new Set(["", ...FIRST, ...FIRST.map(turned)]);

export class TaskTable {
  /** @param {() => void} changed filter or order have changed: keep them in the URL @param {(taskId: string) => void} opens a row was chosen */
  constructor(changed, opens) {
    this.changed = changed;
    this.opens = opens;
    this.body = /** @type {HTMLElement} */ (byId("tasks").querySelector("tbody"));
    this.search = /** @type {HTMLInputElement} */ (byId("search"));
    this.chips = /** @type {HTMLElement[]} */ ([...byId("chips").querySelectorAll("button")]);
    this.sorter = /** @type {HTMLSelectElement} */ (byId("sort"));
    this.headings = /** @type {HTMLElement[]} */ ([...byId("tasks").querySelectorAll("th [data-sort]")]);
    this.status = "all";
    this.sort = "";
    /** @type {Snapshot|null} */
    this.snapshot = null;
    this.older = new OlderTasks(() => this.render());
    /** Tasks whose process has ended. @type {Set<string>} */
    this.dead = new Set();
    /** @type {string|null} */
    this.open = null; // the task in the drawer
    /** @type {string|null} */
    this.current = null; // the row the keyboard is on

    for (const chip of this.chips) chip.addEventListener("click", () => this.filter({ status: chip.dataset.status }));
    for (const heading of this.headings) heading.addEventListener("click", () => this.#turn(heading.dataset.sort ?? ""));
    this.sorter.addEventListener("change", () => this.filter({ sort: this.sorter.value }));
    this.search.addEventListener("input", () => this.filter({ words: this.search.value }));
    byId("tasks-all").addEventListener("click", () => setAttr(byId("tasks-table"), "data-all", ""));
    byId("tasks-more").addEventListener("click", () => this.#more());
    byId("tasks-reset").addEventListener("click", () => { this.filter({ status: "all", words: "" }); this.search.focus(); });
    this.body.addEventListener("click", (event) => this.#clicked(event));
    this.body.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("focusin", (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest("tr[data-task-id]");
      if (row) this.#makeCurrent(/** @type {HTMLElement} */ (row));
    });
  }

  /** Change what is shown; what is not named stays. @param {{status?: string, words?: string, sort?: string}} wanted */
  filter({ status = this.status, words = this.search.value, sort = this.sort }) {
    this.status = status === "all" || status === "other" || STATUSES.includes(status) ? status : "all";
    this.sort = SORTS.has(sort) ? sort : "";
    if (this.search.value !== words) this.search.value = words;
    this.older.pages = 1;
    this.changed();
    this.render();
  }

  /** @param {string} first the order of a heading's first click */
  #turn(first) {
    this.filter({ sort: this.sort === first ? turned(first) : this.sort === turned(first) ? "" : first });
  }

  #more() {
    const rows = this.#rows().length;
    this.older.more();
    setAttr(byId("tasks-table"), "data-all", "");
    this.render();
    this.focusAfter = rows; // the reader goes on where the list ended
  }

  get view() {
    return { status: this.status, words: this.search.value.trim(), sort: this.sort };
  }

  /** @param {Snapshot|null} snapshot */
  update(snapshot) {
    this.snapshot = snapshot;
    /** @type {{task_id: string, alive: boolean}[]} */
    const processes = snapshot?.overview.system.processes.tasks ?? [];
    this.dead = new Set(processes.filter((process) => process.alive === false).map((process) => process.task_id));
    this.render();
  }

  render() {
    for (const chip of this.chips) setAttr(chip, "aria-pressed", String((chip.dataset.status ?? "all") === this.status));
    this.#showOrder();
    const view = this.view;
    const filtered = view.status !== "all" || view.words !== "";
    const live = this.snapshot?.tasks ?? [];
    const rows = filtered || view.sort || this.older.pages > 1 ? this.#withOlder(live) : live;
    const currency = this.snapshot?.overview.costs.currency;
    reconcile(this.body, rows, (task) => task.task_id, taskRow, (row, task) =>
      fillRow(row, task, { currency, open: task.task_id === this.open, dead: this.dead.has(task.task_id) }));
    this.#roving();
    this.#notes(rows.length, filtered);
    if (this.focusAfter !== null && rows.length > this.focusAfter) {
      part(this.#rows()[this.focusAfter], "description").focus();
      this.focusAfter = null;
    }
  }

  #showOrder() {
    setAttr(this.sorter, "data-value", this.sort);
    if (this.sorter.value !== this.sort) this.sorter.value = this.sort;
    for (const heading of this.headings) {
      const first = heading.dataset.sort ?? "";
      const on = this.sort === first || this.sort === turned(first);
      setAttr(/** @type {Element} */ (heading.closest("th")), "aria-sort", !on ? "none" : this.sort.startsWith("-") ? "descending" : "ascending");
    }
    for (const kind of ["csv", "json"]) {
      const query = parameters(this.view);
      query.set("format", kind);
      setAttr(byId(`export-${kind}`), "href", `/api/export/tasks?${query}`);
    }
  }

  /** @param {Task} task */
  #hasStatus(task) {
    if (this.status === "all") return true;
    return this.status === "other" ? !STATUSES.includes(task.status) : task.status === this.status;
  }

  /** @param {Task} task @param {string[]} words */
  #matches(task, words) {
    if (!this.#hasStatus(task)) return false;
    const text = [task.task_id, task.description, task.model, task.agent_type, task.phase, task.error_class, task.current_tool?.name]
      .join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  }

  /** The live rows that match, and what REST knows beyond; of a task that both have, the live one. @param {Task[]} live */
  #withOlder(live) {
    const view = this.view;
    if (this.snapshot) this.older.want(view);
    const words = view.words.toLowerCase().split(/\s+/).filter(Boolean);
    const newest = new Map(live.map((task) => [task.task_id, task]));
    const rows = new Map(live.filter((task) => this.#matches(task, words)).map((task) => [task.task_id, task]));
    for (const task of this.older.tasks) {
      const shown = newest.get(task.task_id) ?? task;
      if (!rows.has(task.task_id) && this.#hasStatus(shown)) rows.set(task.task_id, shown);
    }
    const found = [...rows.values()];
    if (!view.sort) return found;
    found.sort(byOrder(view.sort));
    const { tasks, total } = this.older;
    if (total === null || tasks.length >= total) return found;
    // after the last of the pages there are others before the next one that is live
    const known = new Set(tasks.map((task) => task.task_id));
    return found.slice(0, found.findLastIndex((task) => known.has(task.task_id)) + 1);
  }

  /** @param {number} shown @param {boolean} filtered */
  #notes(shown, filtered) {
    const total = filtered ? this.older.total : this.snapshot?.overview.tasks.total;
    const empty = byId("tasks-empty");
    show(empty, this.snapshot !== null && shown === 0);
    if (!empty.hidden) {
      const state = this.snapshot?.sources.amiga?.state;
      setText(byId("tasks-empty-text"), state === "loading" ? "AMIGA’s database is being read …" : filtered ? NOTHING[this.older.state]
        : state === "ok" ? "AMIGA has no tasks yet." : "No tasks to show: AMIGA’s database has not been read.");
      show(byId("tasks-reset"), filtered);
    }
    const beyond = format.known(total) && total > shown;
    setText(byId("tasks-count"), shown === 0 ? "" : beyond
      ? `${filtered || this.sort ? "First" : "Active and newest"} ${format.int(shown)} of ${format.int(total)}` : format.plural(shown, "task"));
    setText(byId("tasks-all"), `Show all ${format.int(shown)}`);
    setAttr(byId("tasks-table"), "data-long", shown > PHONE_ROWS ? "" : null);
    show(byId("tasks-more"), beyond && shown > 0 && this.older.pages < MAX_PAGES);
    show(byId("tasks-hint"), beyond && shown > 0 && this.older.pages >= MAX_PAGES);
    show(byId("tasks-foot"), shown > 0);
    show(byId("tasks-table"), shown > 0 || this.snapshot === null);
  }

  // -- keyboard and mouse ------------------------------------------------------------------------

  /** @returns {HTMLElement[]} */
  #rows() {
    return [...this.body.querySelectorAll("tr[data-task-id]")].map((row) => /** @type {HTMLElement} */ (row));
  }

  /** One row's button is in the tab order, the others are reached with the arrows, or j and k. */
  #roving() {
    const rows = this.#rows();
    const current = rows.find((row) => row.dataset.taskId === this.current) ?? rows[0];
    for (const row of rows) setAttr(part(row, "description"), "tabindex", row === current ? "0" : "-1");
  }

  /** @param {HTMLElement} row */
  #makeCurrent(row) {
    this.current = row.dataset.taskId ?? null;
    this.#roving();
  }

  /** These work also where single keys are switched off. @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.move(step);
  }

  /** Put the keyboard on another row. @param {number} step 1 down, -1 up, -Infinity to the first @returns {string|null} its task */
  move(step) {
    const rows = this.#rows().filter((row) => row.offsetHeight > 0); // a narrow page shows the first ones only
    if (!rows.length) return null;
    const remembered = rows.findIndex((row) => row.dataset.taskId === this.current);
    const at = this.open !== null || rows.some((row) => row.contains(document.activeElement)) ? remembered : -1;
    const row = rows[at < 0 ? Math.max(0, remembered) : Math.min(rows.length - 1, Math.max(0, at + step))];
    this.#makeCurrent(row);
    row.scrollIntoView({ block: "nearest" });
    part(row, "description").focus({ preventScroll: true }); // does nothing under an open drawer
    return this.current;
  }

  /** Which task is in the drawer now. @param {string|null} taskId */
  mark(taskId) {
    this.open = taskId;
    if (taskId !== null) this.current = taskId;
    this.render();
  }

  /** The row's button, where the focus goes back to. @param {string} taskId @returns {HTMLElement|null} */
  button(taskId) {
    const row = this.#rows().find((element) => element.dataset.taskId === taskId);
    return row ? part(row, "description") : null;
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest("tr[data-task-id]");
    if (!row || getSelection()?.toString()) return; // selecting text is not a click
    const id = /** @type {HTMLElement} */ (row).dataset.taskId;
    if (id) this.opens(id);
  }

  /** @type {number|null} */
  focusAfter = null;
}

/** As the server sorts: unknown values last either way. @param {string} sort @returns {(one: Task, other: Task) => number} */
function byOrder(sort) {
  const name = sort.replace("-", "");
  const sign = sort.startsWith("-") ? -1 : 1;
  const of = (/** @type {any} */ task) => (name === "duration" ? durationOf(task) : task[name]) ?? null;
  return (one, other) => {
    const [a, b] = [of(one), of(other)];
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (a === b) return sign * (one.task_id < other.task_id ? -1 : 1);
    return sign * (a < b ? -1 : 1);
  };
}
