/**
 * The task table: rows, chips, search, keyboard, and the older tasks that a filter brings in over REST.
 *
 * The stream carries the newest 50 tasks; with a filter the page shows the matching ones of them at once and asks
 * `/api/tasks` for the rest, at most every 5 s.
 */
import { byId, h, icon, part, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { now, since } from "./clock.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Task} Task */

export const STATUSES = ["running", "pending", "completed", "failed", "stopped"];
const ENDED = new Set(["completed", "failed", "stopped"]);
const OLDER_EVERY_MS = 5_000;
const PAGE_SIZE = 50;
/** A phone shows so many rows until asked for all (dashboard.css counts them). */
const PHONE_ROWS = 12;

/** @param {string} status */
export function statusIcon(status) {
  return STATUSES.includes(status) ? status : "unknown";
}

export class TaskTable {
  /** @param {() => void} changed the filter has changed: keep it in the URL */
  constructor(changed) {
    this.changed = changed;
    this.body = /** @type {HTMLElement} */ (byId("tasks").querySelector("tbody"));
    this.search = /** @type {HTMLInputElement} */ (byId("search"));
    this.chips = /** @type {HTMLElement[]} */ ([...byId("chips").querySelectorAll("button")]);
    this.status = "all";
    /** @type {Snapshot|null} */
    this.snapshot = null;
    /** Tasks of `/api/tasks` for the present filter. @type {{key: string, tasks: Task[], total: number|null, at: number}} */
    this.older = { key: "", tasks: [], total: null, at: 0 };
    this.pages = 1;
    /** Tasks whose process has ended. @type {Set<string>} */
    this.dead = new Set();
    /** @type {string|null} */
    this.open = null; // the row whose details are shown
    /** @type {string|null} */
    this.current = null; // the row the keyboard is on

    for (const chip of this.chips) chip.addEventListener("click", () => this.filter(chip.dataset.status ?? "all", this.search.value));
    this.search.addEventListener("input", () => this.filter(this.status, this.search.value));
    byId("tasks-all").addEventListener("click", () => setAttr(byId("tasks-table"), "data-all", ""));
    byId("tasks-more").addEventListener("click", () => { this.pages += 1; this.older.at = 0; this.render(); });
    byId("tasks-reset").addEventListener("click", () => { this.filter("all", ""); this.search.focus(); });
    this.body.addEventListener("click", (event) => this.#clicked(event));
    this.body.addEventListener("focusin", (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest("tr[data-task-id]");
      if (row) this.#makeCurrent(/** @type {HTMLElement} */ (row));
    });
  }

  /** @param {string} status @param {string} words */
  filter(status, words) {
    this.status = status === "all" || status === "other" || STATUSES.includes(status) ? status : "all";
    if (this.search.value !== words) this.search.value = words;
    this.pages = 1;
    this.changed();
    this.render();
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
    const snapshot = this.snapshot;
    const words = this.search.value.trim();
    const filtered = this.status !== "all" || words !== "";
    const live = (snapshot?.tasks ?? []).filter((task) => this.#matches(task, words));
    const rows = filtered ? this.#withOlder(live, words) : live;
    const currency = snapshot?.overview.costs.currency;

    reconcile(this.body, this.#withDetail(rows), (row) => row.key,
      (row) => (row.detail ? detailRow() : taskRow()),
      (element, row) => (row.detail ? fillDetail(element, row.task, currency) : this.#fill(element, row.task, currency)));
    this.#roving();
    this.#notes(rows.length, filtered);
  }

  /** @param {Task[]} rows */
  #withDetail(rows) {
    return rows.flatMap((task) => {
      const row = { key: task.task_id, task, detail: false };
      return task.task_id === this.open ? [row, { key: `${task.task_id} detail`, task, detail: true }] : [row];
    });
  }

  /** @param {Task} task @param {string} words */
  #matches(task, words) {
    if (this.status === "other" ? STATUSES.includes(task.status) : this.status !== "all" && task.status !== this.status) return false;
    if (!words) return true;
    const text = [task.task_id, task.description, task.model, task.agent_type, task.phase, task.error_class, task.current_tool?.name]
      .join(" ").toLowerCase();
    return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  /** The live rows, and after them what REST knows beyond. @param {Task[]} live @param {string} words */
  #withOlder(live, words) {
    const key = `${this.status}\n${words}\n${this.pages}`;
    const due = performance.now() - this.older.at > OLDER_EVERY_MS;
    if (this.snapshot && (this.older.key !== key ? true : due)) this.#fetchOlder(key, words);
    if (this.older.key.split("\n").slice(0, 2).join("\n") !== `${this.status}\n${words}`) return live;
    const seen = new Set((this.snapshot?.tasks ?? []).map((task) => task.task_id));
    return [...live, ...this.older.tasks.filter((task) => !seen.has(task.task_id))];
  }

  /** @param {string} key @param {string} words */
  #fetchOlder(key, words) {
    const same = this.older.key.startsWith(`${this.status}\n${words}\n`);
    this.older = { key, tasks: same ? this.older.tasks : [], total: same ? this.older.total : null, at: performance.now() };
    const query = new URLSearchParams({ page: "1", page_size: String(Math.min(100, PAGE_SIZE * this.pages)) });
    if (this.status !== "all") query.set("status", this.status);
    if (words) query.set("search", words);
    clearTimeout(this.typing);
    // typing is not a request a letter
    this.typing = setTimeout(async () => {
      try {
        const response = await fetch(`/api/tasks?${query}`, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!response.ok) return;
        const answer = await response.json();
        if (this.older.key !== key || !Array.isArray(answer.tasks)) return;
        this.older = { key, tasks: answer.tasks, total: answer.total ?? null, at: performance.now() };
        this.render();
      } catch {
        // the live rows stay; the stream says what is wrong with the connection
      }
    }, same ? 0 : 200);
  }

  /** @param {number} shown @param {boolean} filtered */
  #notes(shown, filtered) {
    const total = filtered ? this.older.total : this.snapshot?.overview.tasks.total;
    const empty = byId("tasks-empty");
    show(empty, this.snapshot !== null && shown === 0);
    if (!empty.hidden) {
      const state = this.snapshot?.sources.amiga?.state;
      setText(byId("tasks-empty-text"), filtered ? "No task matches this filter."
        : state === "ok" ? "AMIGA has no tasks yet." : "No tasks to show: AMIGA's database has not been read.");
      show(byId("tasks-reset"), filtered);
    }
    const count = byId("tasks-count");
    setText(count, shown === 0 ? "" : format.known(total) && total > shown
      ? `${filtered ? "First" : "Active and newest"} ${format.int(shown)} of ${format.int(total)}` : format.plural(shown, "task"));
    show(byId("tasks-hint"), !filtered && format.known(total) && total > shown && shown > 0);
    setText(byId("tasks-all"), `Show all ${format.int(shown)}`);
    setAttr(byId("tasks-table"), "data-long", shown > PHONE_ROWS ? "" : null);
    show(byId("tasks-more"), filtered && format.known(total) && total > shown && this.pages < 2);
    show(byId("tasks-table"), shown > 0 || this.snapshot === null);
  }

  // -- one row -----------------------------------------------------------------------------------

  /** @param {HTMLElement} row @param {Task} task @param {string|undefined} currency */
  #fill(row, task, currency) {
    row.dataset.taskId = task.task_id;
    row.dataset.status = task.status;
    setAttr(row, "data-open", task.task_id === this.open ? "" : null);
    const status = part(row, "status");
    setIcon(status, statusIcon(task.status));
    setText(/** @type {Element} */ (status.querySelector(".word")), format.words(task.status));
    const description = part(row, "description");
    setText(description, task.description || "(no description)");
    description.title = task.description;
    setAttr(description, "aria-expanded", String(task.task_id === this.open));
    setText(part(row, "task_id"), task.task_id);
    setText(part(row, "model"), task.model ?? format.UNKNOWN);
    setText(part(row, "agent_type"), task.agent_type ? format.words(task.agent_type) : format.UNKNOWN);
    const phase = part(row, "phase");
    show(phase, Boolean(task.phase) && task.phase !== task.agent_type);
    setText(phase, task.phase ? format.words(task.phase) : "");
    setText(part(row, "current_tool.name"), task.current_tool?.name ?? format.UNKNOWN);
    const tool = part(row, "current_tool.since");
    show(tool, task.current_tool !== null);
    since(tool, task.current_tool?.since, "duration");
    const gone = part(row, "process");
    show(gone, task.status === "running" && this.dead.has(task.task_id));
    gone.title = "The task counts as running, but its process has ended.";
    setAttr(row, "data-tool", task.current_tool || !gone.hidden ? "" : null);
    setText(part(row, "tool_calls"), format.int(task.tool_calls));
    const errors = part(row, "tool_errors");
    show(errors, (task.tool_errors ?? 0) > 0);
    setText(errors, format.known(task.tool_errors) ? `(${format.int(task.tool_errors)})` : "");
    errors.title = format.known(task.tool_errors) ? format.plural(task.tool_errors, "error") : "";
    setText(part(row, "tokens"), format.compact(task.tokens));
    part(row, "tokens").title = format.known(task.tokens) ? `${format.int(task.tokens)} tokens` : "";
    setText(part(row, "cost"), format.money(task.cost, currency));
    taskDuration(part(row, "duration"), task);
    const started = part(row, "created_at");
    setText(started, format.moment(task.created_at, now()));
    started.title = format.stamp(task.created_at);
  }

  // -- keyboard and mouse ------------------------------------------------------------------------

  /** @returns {HTMLElement[]} */
  #rows() {
    return [...this.body.querySelectorAll("tr[data-task-id]")].map((row) => /** @type {HTMLElement} */ (row));
  }

  /** One row's button is in the tab order, the others are reached with j and k. */
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

  /** @param {number} step 1 down, -1 up */
  move(step) {
    const rows = this.#rows();
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const remembered = Math.max(0, rows.findIndex((row) => row.dataset.taskId === this.current));
    const row = rows[at < 0 ? remembered : Math.min(rows.length - 1, Math.max(0, at + step))];
    part(row, "description").focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  /** Show the details of a task, or hide them. @param {string} taskId */
  toggle(taskId) {
    this.open = this.open === taskId ? null : taskId;
    this.render();
  }

  /** @returns {boolean} whether there was something to close */
  close() {
    if (this.open === null) return false;
    this.open = null;
    this.render();
    return true;
  }

  /** Bring a task into view from elsewhere on the page. @param {string} taskId */
  reveal(taskId) {
    this.open = taskId;
    this.status = "all";
    this.search.value = this.snapshot?.tasks.some((task) => task.task_id === taskId) ? "" : taskId;
    this.changed();
    this.render();
    const row = this.#rows().find((element) => element.dataset.taskId === taskId);
    if (!row) return;
    row.scrollIntoView({ block: "center" });
    part(row, "description").focus({ preventScroll: true });
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest("tr[data-task-id]");
    if (!row || getSelection()?.toString()) return; // selecting text is not a click
    const id = /** @type {HTMLElement} */ (row).dataset.taskId;
    if (id) this.toggle(id);
  }

  /** @type {ReturnType<typeof setTimeout>|undefined} */
  typing = undefined;
}

/** @param {HTMLElement} element @param {Task} task */
function taskDuration(element, task) {
  if (ENDED.has(task.status)) {
    delete element.dataset.since;
    element.removeAttribute("title");
    const known = task.ended_at !== null && task.created_at !== null;
    setText(element, known ? format.duration(/** @type {number} */ (task.ended_at) - /** @type {number} */ (task.created_at)) : format.UNKNOWN);
  } else since(element, task.created_at, "duration");
}

/** @param {string} field @param {Record<string, any>} [attributes] */
const value = (field, attributes = {}) => h("span", { "data-field": field, ...attributes });

function taskRow() {
  const cell = (/** @type {string} */ name, /** @type {string} */ label, /** @type {Node[]} */ ...children) =>
    h("td", { class: `c-${name}`, role: "cell", "data-label": label }, ...children);
  const status = value("status", { class: "status" });
  status.append(icon("unknown"), h("span", { class: "word" }));
  return h("tr", { role: "row" },
    cell("status", "Status", status, value("task_id", { class: "id" })),
    cell("task", "Task", h("button", { type: "button", class: "description", "data-field": "description", "aria-expanded": "false" })),
    cell("model", "Model", value("model")),
    cell("agent", "Agent", value("agent_type"), value("phase", { class: "phase" })),
    cell("tool", "Tool now", value("current_tool.name", { class: "tool" }), value("current_tool.since", { class: "tool-time" }),
      h("span", { class: "gone", "data-field": "process" }, "process gone")),
    cell("calls", "Calls", value("tool_calls"), value("tool_errors", { class: "errors" })),
    cell("tokens", "Tokens", value("tokens")),
    cell("cost", "Cost", value("cost")),
    cell("duration", "Duration", value("duration")),
    cell("started", "Started", value("created_at")),
  );
}

function detailRow() {
  return h("tr", { class: "detail", role: "row" }, h("td", { colspan: "10", role: "cell" }, h("p", { class: "full" }), h("dl", { class: "facts" })));
}

/** @param {HTMLElement} row @param {Task} task @param {string|undefined} currency */
function fillDetail(row, task, currency) {
  setText(/** @type {Element} */ (row.querySelector(".full")), task.description || "(no description)");
  /** @type {[string, string][]} */
  const facts = [
    ["Task", task.task_id],
    ["Status", format.words(task.status)],
    ["Error class", task.error_class ?? format.UNKNOWN],
    ["Agent", task.agent_type ?? format.UNKNOWN],
    ["Phase", task.phase ?? format.UNKNOWN],
    ["Model", task.model ?? format.UNKNOWN],
    ["Created", format.stamp(task.created_at)],
    ["Last change", format.stamp(task.updated_at)],
    ["Ended", format.stamp(task.ended_at)],
    ["Tool calls", `${format.int(task.tool_calls)} (${format.int(task.tool_errors)} errors)`],
    ["Tokens", format.int(task.tokens)],
    ["Cost", format.money(task.cost, currency)],
  ];
  reconcile(/** @type {Element} */ (row.querySelector(".facts")), facts, ([name]) => name,
    () => h("div", {}, h("dt"), h("dd")),
    (pair, [name, text]) => {
      setText(/** @type {Element} */ (pair.firstElementChild), name);
      setText(/** @type {Element} */ (pair.lastElementChild), text);
    });
}
