/**
 * The drawer: a task or a session in full, over the page. What the stream knows of it moves with the stream; the
 * calls, the log and the texts are read over REST, again when the stream says that the task has moved.
 */
import { byId, h, icon, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import * as address from "./address.js";
import { copyText } from "./clipboard.js";
import * as format from "./format.js";
import { since } from "./clock.js";
import { HostCharts } from "./drawer-host.js";
import { statusIcon, writeDuration } from "./taskrow.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Task} Task */
/** @typedef {import('./types.js').Session} Session */
/** @typedef {import('./types.js').TaskDetail} TaskDetail */
/** @typedef {import('./types.js').SessionDetail} SessionDetail */
/** @typedef {import('./address.js').Opened} Opened */

const AGAIN_MS = 2_000; // a task at work moves with every call
const RETRY_MS = 10_000;
const WITHIN_MS = 20_000; // a server that takes the request and is silent is away

/**
 * @typedef {object} Around
 * @property {(taskId: string|null) => void} opened    which task is shown now; null: none
 * @property {() => HTMLElement|null} home             where the focus goes when the drawer has closed; null: where it is
 * @property {(words: string) => void} search          find tasks by these words
 * @property {import('./drawer-host.js').Draw} host    draws the host's charts of a time
 */

export class Drawer {
  /** @param {Around} around */
  constructor(around) {
    this.around = around;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("drawer"));
    this.waterfall = new Waterfall(byId("waterfall"), byId("waterfall-axis"));
    /** @type {Opened|null} */
    this.what = null;
    /** @type {TaskDetail|SessionDetail|null} */
    this.detail = null;
    /** @type {Snapshot|null} */
    this.snapshot = null;
    this.mark = ""; // what the stream said of it when it was read last
    this.readAt = -Infinity; // performance.now() of that
    this.failedOnly = false;
    this.timer = 0;
    this.host = new HostCharts(around.host);

    byId("drawer-close").addEventListener("click", () => this.close());
    this.dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.close(); });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.close(); }); // beside it
    byId("drawer-retry").addEventListener("click", () => void this.#read());
    byId("drawer-failed").addEventListener("click", () => { this.failedOnly = !this.failedOnly; this.#calls(); });
    byId("drawer-model").addEventListener("click", () => this.#find(this.#task?.model));
    byId("drawer-class").addEventListener("click", () => this.#find(this.#task?.error_class));
    byId("drawer-task").addEventListener("click", () => this.#task && this.open({ kind: "task", id: this.#task.task_id }));
    byId("drawer-copy").addEventListener("click", () => void this.#copy());
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show what the address names, or nothing. */
  follow() {
    const what = address.opened();
    if (what) this.#show(what);
    else this.#hide();
  }

  /** Make way for what must be seen first, a sign-in; `follow` comes back to it. */
  makeWay() {
    this.#hide();
  }

  /** The page behind cannot be seen: its warning stands here too. @param {string|null} text null: all is well */
  warn(text) {
    const note = byId("drawer-lost");
    show(note, text !== null);
    setText(/** @type {Element} */ (note.querySelector("span")), text ?? "");
  }

  /** @param {Opened} what */
  open(what) {
    address.open(what);
    this.#show(what);
  }

  close(back = true) {
    if (!this.what) return;
    address.close({ back });
    this.#hide();
  }

  /** @param {Opened} what */
  #show(what) {
    if (this.what?.kind === what.kind && this.what.id === what.id) {
      if (this.dialog.dataset.state === "error") void this.#read();
      return;
    }
    this.what = what;
    this.detail = null;
    this.failedOnly = false;
    this.mark = "";
    setAttr(this.dialog, "data-kind", what.kind);
    setAttr(this.dialog, "data-id", what.id);
    setAttr(this.dialog, "data-state", "reading");
    if (!this.dialog.open) this.dialog.showModal();
    this.around.opened(what.kind === "task" ? what.id : null);
    this.render();
    this.dialog.scrollTop = 0;
    byId("drawer-title").focus();
    void this.#read();
  }

  #hide() {
    if (!this.what) return;
    this.what = null;
    this.detail = null;
    clearTimeout(this.timer);
    this.host.show(null);
    this.dialog.close(); // gives the focus back
    this.around.home()?.focus({ preventScroll: true });
    this.around.opened(null);
  }

  /** @param {string|null|undefined} words */
  #find(words) {
    if (!words) return;
    this.close(false); // what follows is written into the address that stands now
    this.around.search(words);
  }

  async #copy() {
    const button = byId("drawer-copy");
    const url = new URL("/", location.href);
    if (this.what) url.searchParams.set(this.what.kind, this.what.id);
    setText(button, (await copyText(url.href)) ? "Copied" : "Not allowed");
    setTimeout(() => setText(button, "Copy link"), 2_000);
  }

  // -- reading -----------------------------------------------------------------------------------

  async #read() {
    const what = this.what;
    if (!what) return;
    this.readAt = performance.now();
    this.mark = this.#moved();
    const problem = await this.#fetch(what);
    if (this.what !== what) return; // closed, or another one, meanwhile
    show(byId("drawer-problem"), problem !== null);
    setText(byId("drawer-problem-text"), problem ?? "");
    setAttr(this.dialog, "data-state", problem === null ? "read" : "error");
    this.render();
  }

  /** @param {Opened} what @returns {Promise<string|null>} what went wrong */
  async #fetch(what) {
    const { kind, id } = what;
    try {
      const reply = await fetch(`/api/${kind}s/${encodeURIComponent(id)}`, {
        headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS),
      });
      if (reply.status === 404) return kind === "task" ? `There is no task ${id}. AMIGA may have removed it.` : `There is no session ${id} in the last eight days.`;
      if (reply.status === 401) return "You are signed out.";
      if (!reply.ok) return `The server answered ${reply.status}. It is asked again as soon as the task moves.`;
      const detail = await reply.json();
      if (this.what === what) this.detail = detail; // not another one's meanwhile
      return null;
    } catch {
      return "The server cannot be reached.";
    }
  }

  /** Changes when the stream has news of what is shown. */
  #moved() {
    if (this.what?.kind === "session") {
      const session = this.#session;
      return session ? `${session.tools} ${session.errors} ${session.last_activity}` : "";
    }
    const task = this.snapshot?.tasks.find((one) => one.task_id === this.what?.id);
    return task ? [task.status, task.updated_at, task.tool_calls, task.tool_errors, task.current_tool?.since].join(" ") : "";
  }

  /** @param {Snapshot} snapshot */
  update(snapshot) {
    this.snapshot = snapshot;
    if (!this.what) return;
    this.render();
    if (this.#moved() === this.mark) return;
    clearTimeout(this.timer);
    const wait = this.dialog.dataset.state === "error" ? RETRY_MS : AGAIN_MS;
    this.timer = window.setTimeout(() => void this.#read(), Math.max(0, this.readAt + wait - performance.now()));
  }

  /** Called once a second. */
  tick() {
    if (this.what && this.detail) this.waterfall.tick();
  }

  // -- showing -----------------------------------------------------------------------------------

  /** The task as the stream has it now, else as it was read. @returns {Task|null} */
  get #task() {
    if (this.what?.kind !== "task") return this.detail?.task ?? null;
    const live = this.snapshot?.tasks.find((one) => one.task_id === this.what?.id);
    const read = this.detail?.task ?? null;
    // of an old task only the detail has counted the calls
    return live && read && live.updated_at === read.updated_at ? { ...live, tool_calls: Math.max(live.tool_calls ?? 0, read.tool_calls ?? 0) } : (live ?? read);
  }

  /** @returns {Session|null} */
  get #session() {
    if (this.what?.kind !== "session") return null;
    const sessions = this.snapshot?.sessions;
    const live = [...(sessions?.active ?? []), ...(sessions?.recent ?? [])].find((one) => one.session_id === this.what?.id);
    return live ?? /** @type {SessionDetail|null} */ (this.detail)?.session ?? null;
  }

  render() {
    if (!this.what) return;
    const task = this.#task;
    const session = this.#session;
    const currency = this.snapshot?.overview.costs.currency;
    const detail = this.detail;
    const title = this.what.kind === "task"
      ? (/** @type {TaskDetail|null} */ (detail)?.description || task?.description || `Task ${this.what.id}`)
      : `Session ${this.what.id}`;
    setText(byId("drawer-title"), title);
    setAttr(byId("drawer-title"), "data-long", title.length > 240 ? "" : null);
    setText(byId("drawer-id"), this.what.id);
    const status = byId("drawer-status");
    const word = session ? (session.state ?? session.kind) : (task?.status ?? "");
    setAttr(this.dialog, "data-status", word);
    setIcon(status, session ? "session" : statusIcon(word));
    setText(/** @type {Element} */ (status.querySelector(".word")), word ? format.words(word) : this.dialog.dataset.state === "error" ? "not read" : "reading …");
    this.#facts(task, session, currency);
    this.#error(task);
    this.#calls();
    this.#rest();
  }

  /** @param {Task|null} task @param {Session|null} session @param {string|undefined} currency */
  #facts(task, session, currency) {
    const detail = /** @type {any} */ (this.detail);
    const write = (/** @type {string} */ name, /** @type {string} */ text) => setText(byId(`drawer-${name}`), text);
    const when = (/** @type {string} */ name, /** @type {number|null|undefined} */ epoch) => {
      write(name, format.moment(epoch, Date.now() / 1000));
      byId(`drawer-${name}`).title = format.stamp(epoch);
    };
    show(byId("drawer-task-fact"), session !== null);
    write("task", session?.task_id ?? "none: started by hand");
    setAttr(byId("drawer-task"), "disabled", session?.task_id ? null : "");
    for (const name of ["agent", "model", "ended"]) show(byId(`drawer-${name}-fact`), session === null);
    if (task && !session) writeDuration(byId("drawer-duration"), task);
    else if (detail?.began && session?.last_activity) write("duration", format.duration(session.last_activity - detail.began));
    else write("duration", format.UNKNOWN);
    when("started", session ? detail?.began : task?.created_at);
    when("ended", task?.ended_at);
    since(byId("drawer-changed"), session ? session.last_activity : task?.updated_at, "ago");
    write("agent", task?.agent_type ? [...new Set([task.agent_type, task.phase].filter(Boolean))].map((one) => format.words(String(one))).join(" · ") : format.UNKNOWN);
    write("model", task?.model ?? format.UNKNOWN);
    write("calls-count", format.int(session ? session.tools : task?.tool_calls));
    const errors = session ? session.errors : task?.tool_errors;
    write("errors-count", errors ? `(${format.plural(errors, "error")})` : "");
    write("tokens", format.int(session ? detail?.tokens : task?.tokens));
    write("cost", format.money(session ? detail?.cost : task?.cost, currency));
    const attention = this.snapshot?.attention.filter((item) => item.subject === this.what?.id) ?? [];
    reconcile(byId("drawer-attention"), attention, (item) => item.kind,
      () => h("li", {}, icon("warn"), h("span", {}, h("strong"), " ", h("span"))),
      (row, item) => {
        row.dataset.severity = item.severity;
        setText(/** @type {Element} */ (row.querySelector("strong")), format.words(item.kind));
        setText(/** @type {Element} */ (row.querySelector("span span")), item.evidence);
      });
  }

  /** @param {Task|null} task */
  #error(task) {
    const text = /** @type {TaskDetail|null} */ (this.detail)?.error ?? null;
    const kind = task?.error_class ?? null;
    show(byId("drawer-error"), this.what?.kind === "task" && Boolean(text || kind));
    setText(byId("drawer-class"), kind ? format.words(kind) : "");
    show(byId("drawer-class"), kind !== null);
    setText(byId("drawer-error-text"), text ?? "");
    show(byId("drawer-error-text"), text !== null);
  }

  #calls() {
    const work = this.detail?.work;
    const all = work?.calls ?? [];
    const failed = all.filter((call) => call.state === "failed");
    const shown = this.failedOnly ? failed : all;
    const filter = byId("drawer-failed");
    show(filter, failed.length > 0 && all.length > 3);
    setText(filter, `Failed only (${failed.length})`);
    setAttr(filter, "aria-pressed", String(this.failedOnly));
    setText(byId("drawer-calls-note"), !work ? "" : work.total > all.length ? `newest ${format.int(all.length)} of ${format.int(work.total)}`
      : work.total ? format.int(work.total) : "");
    const note = byId("drawer-calls-empty");
    show(note, this.detail !== null && (all.length === 0 || Boolean(work?.problem)));
    setText(note, work?.problem ? `The calls cannot be read now: ${work.problem}.` : this.what?.kind === "session"
      ? (this.detail?.task
        ? "Its calls are recorded with its task." : "The database has no calls of this session; only the hook log knows it.") : "No tool has been called yet.");
    show(byId("drawer-hidden"), Boolean(work?.parameters_hidden) && all.length > 0);
    show(byId("waterfall-frame"), all.length > 0);
    this.waterfall.show(shown, this.#task?.ended_at ?? null);
  }

  #rest() {
    const detail = /** @type {TaskDetail|null} */ (this.what?.kind === "task" ? this.detail : null);
    show(byId("drawer-log"), Boolean(detail?.log.length));
    reconcile(byId("drawer-log-list"), [...(detail?.log ?? [])].reverse(), (entry, index) => `${entry.timestamp} ${(detail?.log.length ?? 0) - index}`,
      () => h("li", {}, h("time", { class: "num muted" }), h("span")),
      (row, entry) => {
        const time = /** @type {HTMLElement} */ (row.firstElementChild);
        setText(time, format.moment(entry.timestamp, Date.now() / 1000));
        time.title = format.stamp(entry.timestamp);
        setText(/** @type {Element} */ (row.lastElementChild), entry.message);
      });
    show(byId("drawer-result"), Boolean(detail?.result));
    setText(byId("drawer-result-text"), detail?.result ?? "");
    show(byId("drawer-sessions"), Boolean(detail?.sessions.length));
    reconcile(byId("drawer-sessions-list"), detail?.sessions ?? [], String,
      (id) => h("li", {}, h("button", { type: "button", class: "link id", on: { click: () => this.open({ kind: "session", id }) } }, id)),
      () => {});
    this.host.show(detail?.task ?? null);
  }
}
