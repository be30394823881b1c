/**
 * One chart as people meet it: title, legend in words, the drawing or its table, and the tasks of a chosen moment.
 */
import { UNITS } from "./charts-list.js";
import { Plot } from "./charts-plot.js";
import { h, icon, reconcile, setAttr, setText, show } from "./dom.js";
import { now } from "./clock.js";
import { pointTime } from "./charts-time.js";
import * as format from "./format.js";

/**
 * @typedef {import('./charts-list.js').Chart} Chart
 * @typedef {import('./charts-list.js').Line} Line
 * @typedef {import('./charts-plot.js').View} View
 * @typedef {import('./charts-plot.js').Acts} Acts
 * @typedef {import('./charts-data.js').Span} Span
 */

const MOST_TASKS = 12;
const GLYPHS = ["completed", "failed", "running", "pending", "stopped"];
const LEAP = 10; // points
const NEWEST_S = 300; // what is counted by the minute comes a few minutes later
const NEWEST_STEPS = 3;

export class Card {
  /** @param {Chart} chart @param {View} view @param {Acts & {say: (text: string) => void, reveal?: (taskId: string) => void}} acts */
  constructor(chart, view, acts) {
    this.chart = chart;
    this.view = view;
    this.acts = acts;
    /** @type {Plot|null} */
    this.plot = null;
    this.visible = true;
    this.stale = true; // not drawn since the data changed
    /** @type {number|null} */
    this.time = null; // of the cursor

    const title = h("h3", { id: `chart-${chart.id}-title` }, chart.title);
    this.toggle = h("button", { type: "button", class: "quiet chart-toggle", "aria-expanded": "false", "aria-controls": `chart-${chart.id}-table`,
      on: { click: () => this.showTable(this.table.hidden !== false) } }, "Table", h("span", { class: "hidden-text" }, ` of ${chart.title}`));
    this.values = chart.lines.map(() => h("span", { class: "num" }, format.UNKNOWN));
    this.keys = chart.lines.map((line, index) => h("li", { "data-line": String(index) }, swatch(line, index), h("span", { class: "chart-word" }, line.label), " ", this.values[index]));
    this.when = h("span", { class: "muted num chart-when" });
    this.holder = h("div", {
      class: "chart-plot", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-labelledby": title.id,
      "aria-describedby": "charts-keys", on: { keydown: (/** @type {KeyboardEvent} */ event) => this.#key(event), blur: () => this.acts.leave() },
    });
    this.empty = h("p", { class: "chart-empty muted", hidden: true }, "Nothing is known of this time.");
    this.holder.append(this.empty);
    this.table = h("div", { class: "chart-table", id: `chart-${chart.id}-table`, tabindex: "0", role: "region", "aria-label": `Table: ${chart.title}`, hidden: true });
    this.tasks = h("div", { class: "chart-tasks", hidden: true });
    this.element = h("article", { class: "chart", id: `chart-${chart.id}` },
      h("div", { class: "chart-head" }, title, this.toggle),
      h("ul", { class: "chart-legend" }, ...this.keys, h("li", { class: "chart-when-item" }, this.when)),
      this.holder, this.table, this.tasks);
  }

  /** @param {any} uPlot */
  begin(uPlot) {
    this.plot = new Plot(uPlot, this.holder, this.chart, this.view, this.acts);
    this.stale = false;
  }

  /** The library is not there: its table stands in. */
  standIn() {
    this.holder.hidden = true;
    this.toggle.hidden = true;
    this.showTable(true);
  }

  /** New data, or another time. Off the screen it waits until it is looked at. */
  update() {
    this.stale = true;
    if (this.visible) this.draw();
  }

  draw() {
    if (!this.stale) return;
    this.stale = false;
    this.plot?.draw();
    this.#legend();
    if (!this.table.hidden) this.#rows();
  }

  /** @param {number|null} time of the cursor, null for the newest values */
  at(time) {
    this.time = time;
    this.plot?.cursor(time);
    this.#legend();
  }

  /** @param {boolean} shown */
  showTable(shown) {
    show(this.table, shown);
    setAttr(this.toggle, "aria-expanded", String(shown));
    if (shown) this.#rows();
    else this.table.replaceChildren();
  }

  // -- values in words ---------------------------------------------------------------------------

  /** @param {Line} line @returns {(number|null)[]} */
  #values(line) {
    return line.work ? line.work(this.view.data) : this.view.data.column(line.name).avg;
  }

  /** @param {Line} line @param {number|null} value */
  #words(line, value) {
    return UNITS[line.unit].words(value, this.view.snapshot?.overview.costs.currency);
  }

  get #times() {
    return this.view.data.column(this.chart.lines[0].name).t;
  }

  /** Index of the point at a time, or of the newest one that says something. @param {number|null} time */
  #index(time) {
    const times = this.#times;
    if (time === null) {
      const columns = this.chart.lines.map((line) => this.#values(line));
      for (let i = times.length - 1; i >= 0; i -= 1) if (columns.some((values) => values[i] !== null && values[i] !== undefined)) return i;
      return times.length - 1;
    }
    let low = 0;
    for (let high = times.length - 1; low < high;) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= time) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #legend() {
    const index = this.#index(this.time);
    let known = false;
    this.chart.lines.forEach((line, i) => {
      const values = this.#values(line);
      show(this.keys[i], i === 0 || values.some((value) => value !== null)); // a model nobody uses is no line
      setText(this.values[i], this.#words(line, values[index]));
      if (values.some((value) => value !== null)) known = true;
    });
    show(this.empty, !known && this.view.data.to > 0); // before there is an answer nobody knows that
    const age = this.view.to - this.#times[index];
    const newest = this.time === null && age <= Math.max(NEWEST_S, NEWEST_STEPS * this.#step);
    setText(this.when, newest || !known ? "" : `at ${this.#when(index)}`); // what is old says so
  }

  /** @param {number} index */
  #when(index) {
    return pointTime(this.#times[index], this.#step, now());
  }

  get #step() {
    return this.view.data.column(this.chart.lines[0].name).step;
  }

  #rows() {
    const lines = this.chart.lines.filter((_, i) => !this.keys[i].hidden);
    if (!this.table.firstChild || this.table.dataset.lines !== String(lines.length)) {
      this.table.dataset.lines = String(lines.length);
      const heads = ["Time", ...lines.map((line) => line.label)].map((text) => h("th", { scope: "col" }, text));
      this.table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody")));
    }
    const { from, to, data } = this.view;
    const times = this.#times;
    const rows = times.map((_, i) => i).filter((i) => times[i] >= from - this.#step && times[i] < to).reverse();
    const columns = lines.map((line) => ({ line, values: this.#values(line), column: data.column(line.name) }));
    reconcile(/** @type {Element} */ (this.table.querySelector("tbody")), rows, (i) => String(times[i]),
      () => h("tr", {}, h("th", { scope: "row" }), ...lines.map(() => h("td"))),
      (row, i) => {
        setText(row.children[0], this.#when(i));
        columns.forEach(({ line, values, column }, at) => setText(row.children[at + 1], cell((value) => this.#words(line, value), line.work ? null : column, values[i], i)));
      });
  }

  // -- by key ------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const times = this.#times;
    const { from, to } = this.view;
    const here = this.#index(this.time);
    const leap = event.shiftKey ? LEAP : 1;
    /** @type {Record<string, () => boolean|void>} */
    const keys = {
      ArrowLeft: () => this.#goTo(here - leap),
      ArrowRight: () => this.#goTo(here + leap),
      PageUp: () => this.#goTo(here - LEAP),
      PageDown: () => this.#goTo(here + LEAP),
      Home: () => this.#goTo(this.#index(from)),
      End: () => this.#goTo(times.length - 1),
      Enter: () => { if (times.length) this.acts.pick(times[here]); },
      "+": () => this.acts.zoom(Math.max(from, times[here] - (to - from) / 4), Math.min(to, times[here] + (to - from) / 4)),
      "-": () => this.acts.back(),
      Escape: () => this.acts.back(),
    };
    if (!Object.hasOwn(keys, event.key) || keys[event.key]() === false) return; // Escape has other work too
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} index */
  #goTo(index) {
    const times = this.#times;
    if (!times.length) return;
    const at = Math.min(Math.max(index, 0), times.length - 1);
    this.time = times[at]; // the drawing follows with the next frame, the next key may come before
    this.acts.point(this.time);
    const words = this.chart.lines.filter((_, i) => !this.keys[i].hidden)
      .map((line) => `${line.label} ${this.#words(line, this.#values(line)[at])}`);
    this.acts.say(`${this.#when(at)}: ${words.join(", ")}`);
  }

  // -- what ran then -----------------------------------------------------------------------------

  /** List the tasks of the point at a time, below the chart. @param {number} time */
  tasksAt(time) {
    const index = this.#index(time);
    const from = this.#times[index];
    const all = this.view.data.tasksBetween(from, from + this.#step);
    const words = all.length ? `${format.plural(all.length, "task")} ran at ${this.#when(index)}` : `No task ran at ${this.#when(index)}`;
    const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close this list", on: { click: () => { show(this.tasks, false); this.holder.focus(); } } }, "×");
    this.tasks.replaceChildren(h("div", { class: "chart-head" }, h("p", {}, words), close),
      h("ul", { class: "rows" }, ...all.slice(0, MOST_TASKS).map((span) => this.#task(span))));
    if (all.length > MOST_TASKS) this.tasks.append(h("p", { class: "muted" }, `and ${all.length - MOST_TASKS} more`));
    show(this.tasks, true);
    this.acts.say(words);
  }

  /** @param {Span} span */
  #task(span) {
    const name = span.description || span.task_id;
    const { reveal } = this.acts;
    return h("li", { "data-status": span.status, "data-task-id": span.task_id },
      h("span", { class: "status" }, icon(GLYPHS.includes(span.status) ? span.status : "unknown"), format.words(span.status)),
      reveal ? h("button", { type: "button", class: "link", on: { click: () => reveal(span.task_id) } }, name) : h("span", {}, name));
  }
}

/** @param {(value: number|null) => string} words @param {import('./charts-data.js').Column|null} column @param {number|null} value @param {number} i */
function cell(words, column, value, i) {
  if (!column) return words(value);
  const low = words(column.min[i]);
  const high = words(column.max[i]);
  if (low === high) return words(value);
  const [per = ""] = /\/\w+$/.exec(high) ?? [];
  return `${words(value)}\n${low.endsWith(per) ? low.slice(0, low.length - per.length) : low}–${high}`;
}

/** The line's dash and colour, as in the drawing. @param {Line} line @param {number} index */
function swatch(line, index) {
  return h("span", { class: "swatch", "aria-hidden": "true", "data-colour": String(line.colour), "data-dash": String(index) });
}
