/**
 * The lists of the page: needs you, tools, sessions, errors, sources.
 */
import { byId, h, icon, numbered, part, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { emptyNote } from "./empty.js";
import { now, since } from "./clock.js";
import { sourceName } from "./verdict.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Source} Source */

const first = (/** @type {Element} */ element, /** @type {string} */ selector) =>
  /** @type {HTMLElement} */ (element.querySelector(selector));

/** Since when, as far as this page has watched, nothing has needed anybody. @type {number|null} */
let clearSince = null;

/** More would push the tasks off a phone; the worst come first (overview.css counts them). */
const FIRST_NEEDS = 6;
byId("attention-all").addEventListener("click", () => {
  setAttr(byId("attention"), "data-all", "");
  show(byId("attention-all"), false);
  const next = /** @type {HTMLElement} */ (byId("attention-list").children[FIRST_NEEDS]);
  next.tabIndex = -1; // whoever came by keyboard goes on where the list does
  next.focus();
});

/** @param {Snapshot} snapshot @param {(taskId: string) => void} reveal */
export function renderAttention(snapshot, reveal) {
  const items = snapshot.attention;
  const known = snapshot.sources.amiga?.state === "ok" || snapshot.sources.amiga?.state === undefined;
  clearSince = items.length || !known ? null : (clearSince ?? now());
  const panel = byId("attention");
  setAttr(panel, "data-count", String(items.length));
  setAttr(panel, "data-clear", items.length === 0 && known ? "" : null);
  show(byId("attention-all"), items.length > FIRST_NEEDS && !panel.hasAttribute("data-all"));
  setText(byId("attention-all"), `Show all ${format.int(items.length)}`);
  const clear = byId("attention-clear");
  show(clear, items.length === 0);
  if (!clear.hidden) {
    setIcon(clear, known ? "completed" : "unknown");
    setText(first(clear, ".word"), known ? "All clear" : snapshot.sources.amiga.state === "loading" ? "Cannot tell yet: AMIGA’s database is being read"
      : "Cannot tell: AMIGA’s database is not being read");
    setText(first(clear, ".muted"), known && clearSince !== null ? `watched since ${format.moment(clearSince, now())}` : "");
  }
  const tasks = new Set(snapshot.tasks.map((task) => task.task_id));
  reconcile(byId("attention-list"), items, numbered((item) => `${item.kind} ${item.subject}`),
    () => {
      const link = h("button", { type: "button", class: "link", on: { click: () => reveal(link.dataset.taskId ?? "") } }, "Show task");
      return h("li", {},
        h("span", { class: "glyph", "data-field": "severity" }, icon("warn"), h("span", { class: "hidden-text" })),
        h("span", { class: "what" }, h("strong", { "data-field": "subject" }), " ", h("span", { "data-field": "evidence" })),
        h("span", { class: "muted", "data-field": "kind" }), h("span", { class: "muted num", "data-field": "since" }), link);
    },
    (row, item) => {
      row.dataset.severity = item.severity;
      row.dataset.kind = item.kind;
      setIcon(part(row, "severity"), item.severity === "crit" ? "failed" : "warn");
      setText(first(row, ".hidden-text"), item.severity === "crit" ? "critical:" : "warning:");
      setText(part(row, "subject"), item.subject);
      setText(part(row, "evidence"), item.evidence);
      setText(part(row, "kind"), format.words(item.kind));
      since(part(row, "since"), item.since, "age");
      const link = first(row, "button");
      link.dataset.taskId = item.subject;
      show(link, tasks.has(item.subject));
    });
}

/** When the newest of these times was; null where there is none. @param {(number|null|undefined)[]} times */
function newest(times) {
  const known = times.filter(format.known);
  return known.length ? Math.max(...known) : null;
}

/** What stands under a foreign name, which may be `constructor`. @template T @param {Record<string, T>} values @param {string} name @returns {T|undefined} */
const own = (values, name) => (Object.hasOwn(values, name) ? values[name] : undefined);

/** A tool's failed calls by category, and how many probably did not fail. @param {Record<string, number>|undefined} kinds @param {number|undefined} suspect */
function errorKinds(kinds, suspect) {
  const told = Object.entries(kinds ?? {}).map(([kind, count]) => `${format.int(count)} ${format.words(kind)}`);
  if (suspect) told.push(`of them ${format.int(suspect)} suspect: the words were only in what the tool showed`);
  return told.join(", ");
}

/** @param {Snapshot} snapshot @param {(tool: string) => void} find */
export function renderTools(snapshot, find) {
  const { by_type, errors, error_rates, error_categories, suspects, durations } = snapshot.overview.tools;
  const tools = Object.entries(by_type).sort(([a, m], [b, n]) => n - m || a.localeCompare(b)).slice(0, 10);
  const most = Math.max(1, ...tools.map(([, calls]) => calls));
  const list = byId("tools-list");
  emptyNote(byId("tools-empty"), tools.length === 0, snapshot, "No tool call in this window.",
    newest(snapshot.activity.map((item) => (item.kind === "tool" ? item.timestamp : null))));
  reconcile(list, tools, ([name]) => name,
    ([name]) => h("li", {}, h("button", { type: "button", class: "name plain", on: { click: () => find(name) } }), h("span", { class: "bar", "aria-hidden": "true" }), h("span", { class: "num calls" }),
      h("span", { class: "num errors" }), h("span", { class: "num muted time" })),
    (row, [name, calls]) => {
      row.dataset.tool = name;
      setText(first(row, ".name"), name);
      first(row, ".name").title = `Find tasks that used ${name}`;
      first(row, ".bar").style.setProperty("--value", String((100 * calls) / most));
      setText(first(row, ".calls"), format.int(calls));
      const failed = own(errors, name) ?? 0;
      setText(first(row, ".errors"), failed ? `${format.int(failed)} err · ${format.percent(own(error_rates, name), 1)}` : "");
      first(row, ".errors").title = failed ? errorKinds(own(error_categories, name), own(suspects, name)) : "";
      const time = own(durations, name) ?? null;
      setText(first(row, ".time"), time && format.known(time.p50_ms) ? `median ${format.milliseconds(time.p50_ms)}` : "");
      first(row, ".time").title = time ? `half of the calls within ${format.milliseconds(time.p50_ms)}, 95 % within ${format.milliseconds(time.p95_ms)}` : "";
    });
}

/** @param {Snapshot} snapshot @param {(taskId: string) => void} reveal @param {(sessionId: string) => void} open */
export function renderSessions(snapshot, reveal, open) {
  const { active, recent } = snapshot.sessions;
  const rows = [...active.map((session) => ({ session, live: true })),
    ...recent.map((session) => ({ session, live: false }))].slice(0, 12);
  emptyNote(byId("sessions-empty"), rows.length === 0, snapshot, "No session in this window.",
    newest(snapshot.tasks.map((task) => task.updated_at)));
  reconcile(byId("sessions"), rows, (row) => row.session.session_id,
    (row) => {
      const link = h("button", { type: "button", class: "link id", "data-field": "task_id", on: { click: () => reveal(link.textContent ?? "") } });
      return h("li", {}, h("span", { class: "glyph" }, icon("stopped"), h("span", { class: "hidden-text" })),
        h("span", { class: "tag", "data-field": "kind" }), link,
        h("button", { type: "button", class: "link id", "data-field": "session_id", on: { click: () => open(row.session.session_id) } }),
        h("span", { class: "num" }, h("span", { "data-field": "tools" }), h("span", { class: "muted" }, " calls"),
          h("span", { class: "errors", "data-field": "errors" })),
        h("span", { class: "num muted", "data-field": "last_activity" }));
    },
    (row, { session, live }) => {
      row.dataset.live = String(live);
      row.dataset.sessionId = session.session_id;
      setIcon(row, live ? "running" : "idle");
      setText(first(row, ".hidden-text"), live ? "active" : "quiet");
      const id = part(row, "session_id");
      setText(id, session.session_id.slice(0, 8));
      id.title = session.session_id;
      show(id, session.session_id !== session.task_id); // without a session of its own the link says it all
      setText(part(row, "kind"), session.kind);
      const task = part(row, "task_id");
      show(task, session.task_id !== null);
      setText(task, session.task_id ?? "");
      setText(part(row, "tools"), format.int(session.tools));
      setText(part(row, "errors"), session.errors ? ` (${format.int(session.errors)})` : "");
      since(part(row, "last_activity"), session.last_activity, "ago");
    });
}

/** @param {Snapshot} snapshot @param {(name: string) => void} find */
export function renderErrors(snapshot, find) {
  emptyNote(byId("errors-empty"), snapshot.errors.length === 0, snapshot, "No errors in this window.",
    newest(snapshot.tasks.map((task) => (task.status === "failed" ? task.ended_at : null))));
  reconcile(byId("errors"), snapshot.errors, (item) => item.class,
    (item) => h("li", {}, h("span", { class: "num count", "data-field": "count" }),
      h("button", { type: "button", class: "name plain", "data-field": "class", on: { click: () => find(item.class) } }),
      h("span", { class: "muted times" }, "first ", h("span", { "data-field": "first" }), " · last ", h("span", { "data-field": "last" }))),
    (row, item) => {
      row.dataset.class = item.class;
      setText(part(row, "count"), `${format.int(item.count)} ×`);
      setText(part(row, "class"), format.words(item.class));
      part(row, "class").title = `Find the tasks that failed so: ${item.class}`;
      since(part(row, "first"), item.first, "ago");
      since(part(row, "last"), item.last, "ago");
    });
}

const STATE_ICON = { ok: "completed", loading: "pending", missing: "unknown", stale: "warn", error: "failed" };

/** A hint, in which `what is to be typed` stands so. @param {Element} element @param {string} text */
function setHint(element, text) {
  if (element.getAttribute("data-text") === text) return;
  setAttr(element, "data-text", text);
  element.replaceChildren(...text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part)));
}

/** @param {Snapshot} snapshot */
export function renderSources(snapshot) {
  reconcile(byId("sources"), Object.entries(snapshot.sources), ([name]) => name,
    ([name]) => h("li", { "data-source": name },
      h("span", { class: "glyph" }, icon("unknown")), h("span", { class: "name" }, sourceName(name)),
      h("span", { class: "state", "data-field": "state" }), h("span", { class: "muted num", "data-field": "as_of" }),
      h("code", { class: "path", "data-field": "path" }), h("p", { class: "cause", "data-field": "error" }),
      h("p", { class: "hint", "data-field": "hint" })),
    (row, [, source]) => {
      const unset = source.state === "missing" && !source.path; // there is nothing that could be read
      row.dataset.state = source.state;
      setAttr(row, "data-unset", unset ? "" : null);
      setIcon(row, unset ? "idle" : STATE_ICON[source.state] ?? "unknown");
      setText(part(row, "state"), unset ? "not set" : source.state);
      sourceAge(part(row, "as_of"), source, unset);
      for (const name of /** @type {const} */ (["path", "error", "hint"])) {
        const element = part(row, name);
        show(element, Boolean(source[name]));
        if (name === "hint") setHint(element, source.hint ?? "");
        else setText(element, source[name] ?? "");
      }
      part(row, "path").title = source.path ?? "";
    });
}

/** An unchanged healthy source sends no new `as_of`: the stream being alive is the news. @param {HTMLElement} element @param {Source} source @param {boolean} unset */
function sourceAge(element, source, unset) {
  if (source.state === "ok") {
    delete element.dataset.since;
    setText(element, "live");
    element.title = `changed ${format.stamp(source.as_of)}`;
  } else if (source.as_of === null) {
    delete element.dataset.since;
    setText(element, unset ? "" : "never read");
  } else {
    since(element, source.as_of, "ago");
  }
}

/**
 * Sections say in their own heading when what they show is old: last good values stay, dimmed, with age and cause.
 * @param {Snapshot} snapshot
 */
export function markSections(snapshot) {
  for (const found of document.querySelectorAll("[data-needs]")) {
    const section = /** @type {HTMLElement} */ (found);
    const names = (section.dataset.needs ?? "").split(" ");
    const worst = names.map((name) => ({ name, source: snapshot.sources[name] }))
      // one may do without transcripts
      .find(({ name, source }) => source && source.state !== "ok" && !(name === "transcripts" && source.state === "missing"));
    setAttr(section, "data-state", worst ? worst.source.state : null);
    const note = first(section, ".source-note");
    if (!note) continue;
    // a missing AMIGA has a panel of its own; saying it ten times more helps nobody
    const told = worst?.source.state === "missing" && worst.source === snapshot.sources.amiga;
    show(note, Boolean(worst) && !told);
    if (!worst || told) continue;
    const { name, source } = worst;
    const when = source.as_of === null ? "" : `${format.age(now() - source.as_of)} old`;
    // the cause stands once, above; here the age is what matters
    if (source.state === "loading") setText(note, name === "amiga" ? "being read" : `${sourceName(name)}: being read, not all is counted yet`);
    else setText(note, name === "amiga" ? (when || "never read") : source.state === "missing" ? `${sourceName(name)}: not found`
      : `${sourceName(name)}: ${source.error ?? source.state}${when && `, ${when}`}`);
  }
  broken(snapshot.sources.amiga);
  const amiga = snapshot.sources.amiga;
  const absent = amiga?.state === "missing";
  show(byId("no-amiga"), absent);
  if (absent) {
    setText(byId("no-amiga-path"), amiga.path ?? format.UNKNOWN);
    const hint = (amiga.hint ?? "").replace(`looked at ${amiga.path}; `, ""); // that stands above
    setHint(byId("no-amiga-hint"), hint && hint[0].toUpperCase() + hint.slice(1));
    show(byId("no-amiga-hint"), Boolean(amiga.hint));
  }
}

/** What is wrong with the database, and what to do: told once. @param {Source|undefined} source */
function broken(source) {
  const bad = source?.state === "error" || source?.state === "stale";
  show(byId("broken"), bad);
  if (!bad || !source) return;
  const cause = source.error ?? source.state;
  setText(byId("broken-cause"), cause.endsWith(".") ? cause : `${cause}.`);
  setText(byId("broken-path"), source.path ?? "");
  show(byId("broken-path"), Boolean(source.path));
  setText(byId("broken-kept"), source.as_of === null ? "There are no values of it yet." : "The last good values stay below, dimmed.");
  setHint(byId("broken-hint"), source.hint ? `${source.hint[0].toUpperCase()}${source.hint.slice(1)}.` : "");
}
