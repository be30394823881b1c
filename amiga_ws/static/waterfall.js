/**
 * The tool calls of a task on one time axis: a row a call, which opens to what it was called with.
 *
 * Times stand in custom properties as seconds since `--from`, so that moving the axis on touches one element.
 */
import { h, icon, numbered, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { now, since } from "./clock.js";

/** @typedef {import('./types.js').ToolCall} ToolCall */

const WORDS = { ok: "done", failed: "failed", running: "running", orphaned: "no end" };
const ICONS = { ok: "completed", failed: "failed", running: "running", orphaned: "unknown" };
/** What says most about a call, in this order. */
const TELLING = ["command", "file_path", "path", "pattern", "query", "url", "description", "subagent_type", "prompt", "notebook_path"];
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
const TICKS = 5;

export class Waterfall {
  /** @param {HTMLElement} list @param {HTMLElement} axis */
  constructor(list, axis) {
    this.list = list;
    this.axis = axis;
    /** @type {ToolCall[]} */
    this.calls = [];
    this.from = 0;
    this.until = /** @type {number|null} */ (null); // null: goes on
  }

  /** @param {ToolCall[]} calls @param {number|null} until when all of it ended; null while it goes on */
  show(calls, until) {
    this.calls = calls;
    const starts = calls.map((call) => call.started ?? call.ended ?? Infinity);
    this.from = calls.length ? Math.min(...starts) : 0;
    const last = Math.max(...calls.map((call) => call.ended ?? call.started ?? 0));
    this.until = calls.some((call) => call.state === "running") ? null : Math.max(last, until === null ? last : Math.min(until, last));
    this.list.style.setProperty("--from", "0");
    reconcile(this.list, calls, numbered((call) => `${call.tool} ${call.started ?? call.ended}`), callRow,
      (row, call) => fillCall(row, call, this.from));
    this.tick();
  }

  /** Move the axis on. */
  tick() {
    const span = Math.max(1, (this.until ?? now()) - this.from);
    const text = String(Math.round(span * 100) / 100);
    if (this.list.style.getPropertyValue("--span") === text) return;
    this.list.style.setProperty("--span", text);
    this.axis.style.setProperty("--span", text);
    const step = STEPS.find((seconds) => span / seconds <= TICKS) ?? Math.ceil(span / TICKS);
    const ticks = Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step).filter((at) => at <= span * 0.94);
    reconcile(this.axis, ticks, String, () => h("span", { class: "num" }), (element, at) => {
      element.style.setProperty("--at", String(at));
      setText(element, at === 0 ? format.clock(this.from) : `+${short(at)}`);
    });
  }
}

/** As short as it is exact: "30 s", "1 m 30 s", "5 m", "2 h". @param {number} seconds */
function short(seconds) {
  return seconds % (seconds < 3600 ? 60 : 3600) === 0 || seconds < 60 ? format.age(seconds) : format.duration(seconds);
}

function callRow() {
  return h("li", {},
    h("details", {},
      h("summary", {},
        h("span", { class: "glyph" }, icon("unknown"), h("span", { class: "hidden-text state" })),
        h("span", { class: "what" }, h("span", { class: "tool" }), " ", h("span", { class: "preview" })),
        h("span", { class: "lane", "aria-hidden": "true" }, h("span", { class: "span" })),
        h("span", { class: "num time" })),
      h("div", { class: "call" }, h("p", { class: "when muted" }), h("p", { class: "error" }), h("dl", { class: "parameters" }))));
}

/** @param {HTMLElement} row @param {ToolCall} call @param {number} from */
function fillCall(row, call, from) {
  const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (row.querySelector(selector));
  row.dataset.state = call.state;
  setAttr(row, "data-tool", call.tool);
  setIcon(row, ICONS[call.state] ?? "unknown");
  setText(find(".state"), `${WORDS[call.state] ?? call.state}:`);
  setText(find(".tool"), call.tool);
  setText(find(".preview"), preview(call.parameters));
  const start = call.started ?? call.ended ?? from;
  const span = find(".span");
  span.style.setProperty("--start", String(start - from));
  // a call that runs reaches to the end of the axis, wherever that is; one without an end has no length
  if (call.state === "running") span.style.removeProperty("--length");
  else span.style.setProperty("--length", String(Math.max(0, (call.ended ?? start) - start)));
  const time = find(".time");
  if (call.state === "running") since(time, call.started, "duration");
  else {
    delete time.dataset.since;
    setText(time, call.state === "orphaned" ? "no end" : call.started === null || call.ended === null ? format.UNKNOWN
      : format.milliseconds((call.ended - call.started) * 1000));
  }
  setText(find(".when"), call.started === null ? `ended ${format.stamp(call.ended)}; its start is not recorded`
    : `${format.stamp(call.started)}${call.ended === null ? "" : ` – ${format.clock(call.ended)}`} · ${WORDS[call.state] ?? call.state}`);
  const error = find(".error");
  show(error, Boolean(call.error || call.error_category));
  setText(error, [call.error_category ? format.words(call.error_category) : null, call.error].filter(Boolean).join(": "));
  reconcile(find(".parameters"), pairs(call.parameters), ([name]) => name,
    () => h("div", {}, h("dt"), h("dd")),
    (pair, [name, value]) => {
      setText(/** @type {Element} */ (pair.firstElementChild), name);
      setText(/** @type {Element} */ (pair.lastElementChild), value);
    });
}

/** @param {unknown} parameters @returns {[string, string][]} */
function pairs(parameters) {
  if (parameters === null || parameters === undefined) return [];
  if (typeof parameters !== "object" || Array.isArray(parameters)) return [["called with", words(parameters)]];
  return Object.entries(parameters).map(([name, value]) => [name, words(value)]);
}

/** @param {unknown} value */
function words(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}

/** The line beside the tool's name. @param {unknown} parameters */
function preview(parameters) {
  if (parameters === null || parameters === undefined) return "";
  if (typeof parameters !== "object") return String(parameters).slice(0, 200);
  const known = /** @type {Record<string, unknown>} */ (parameters);
  const name = TELLING.find((one) => Object.hasOwn(known, one) && typeof known[one] === "string");
  return name ? String(known[name]).split("\n")[0].slice(0, 200) : "";
}
