/**
 * One row of the task table: how it is built and filled, and the words for a task's times.
 */
import { h, icon, part, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { now, since } from "./clock.js";

/** @typedef {import('./types.js').Task} Task */

export const STATUSES = ["running", "pending", "completed", "failed", "stopped"];
const ENDED = new Set(["completed", "failed", "stopped"]);

/** @param {string} status */
export function statusIcon(status) {
  return STATUSES.includes(status) ? status : "unknown";
}

/** Seconds a task took, or has taken so far; null where nobody knows. @param {Task} task */
export function durationOf(task) {
  if (task.created_at === null) return null;
  if (!ENDED.has(task.status)) return now() - task.created_at;
  return task.ended_at === null ? null : task.ended_at - task.created_at;
}

/** Write a task's duration; that of one still at work moves on by itself. @param {HTMLElement} element @param {Task} task */
export function writeDuration(element, task) {
  if (ENDED.has(task.status)) {
    delete element.dataset.since;
    element.removeAttribute("title");
    setText(element, format.duration(durationOf(task)));
  } else since(element, task.created_at, "duration");
}

/** @param {string} field @param {Record<string, any>} [attributes] */
const value = (field, attributes = {}) => h("span", { "data-field": field, ...attributes });

export function taskRow() {
  const cell = (/** @type {string} */ name, /** @type {string} */ label, /** @type {Node[]} */ ...children) =>
    h("td", { class: `c-${name}`, role: "cell", "data-label": label }, ...children);
  const status = value("status", { class: "status" });
  status.append(icon("unknown"), h("span", { class: "word" }));
  return h("tr", { role: "row" },
    cell("status", "Status", status, value("task_id", { class: "id" })),
    cell("task", "Task", h("button", { type: "button", class: "description", "data-field": "description", "aria-haspopup": "dialog" })),
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

/**
 * @param {HTMLElement} row @param {Task} task
 * @param {{currency: string|undefined, open: boolean, dead: boolean}} around `dead`: its process has ended
 */
export function fillRow(row, task, { currency, open, dead }) {
  row.dataset.taskId = task.task_id;
  row.dataset.status = task.status;
  setAttr(row, "data-open", open ? "" : null);
  const status = part(row, "status");
  setIcon(status, statusIcon(task.status));
  setText(/** @type {Element} */ (status.querySelector(".word")), format.words(task.status));
  const description = part(row, "description");
  setText(description, task.description || "(no description)");
  description.title = task.description;
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
  show(gone, task.status === "running" && dead);
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
  writeDuration(part(row, "duration"), task);
  const started = part(row, "created_at");
  setText(started, format.moment(task.created_at, now()));
  started.title = format.stamp(task.created_at);
}
