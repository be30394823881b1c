/**
 * One chart on a canvas, by uPlot. Colours come from the page's theme at each drawing; gaps are never bridged.
 *
 * uPlot is a classic script that only pages with charts load, and only when they are about to draw one.
 */
import { UNITS } from "./charts-list.js";
import { axisTime } from "./charts-time.js";

/**
 * @typedef {import('./charts-list.js').Chart} Chart
 * @typedef {import('./charts-data.js').ChartData} ChartData
 * @typedef {{from: number, to: number, data: ChartData, snapshot: any}} View
 *
 * @typedef {object} Acts
 * @property {(time: number) => void} point     the pointer is at this time
 * @property {() => void} leave
 * @property {(time: number) => void} pick      a click or a tap
 * @property {(from: number, to: number) => void} zoom
 * @property {() => boolean} back                false where there is nothing to return from
 */

const SCRIPT = "/static/uplot.js";
const HEIGHT = 150;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2]];
const LEAST_BAND_PX = 2; // of a task's time; hundreds of hairlines over a day say nothing, their marks on top do
const LEAST_DRAG = 8; // px; less is a click

/** @type {Promise<any>|null} */
let loading = null;

/** uPlot itself. @returns {Promise<any>} rejects where it is not to be had */
export function loadPlot() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.onload = () => resolve(/** @type {any} */ (globalThis).uPlot);
    script.onerror = () => reject(new Error("the chart library could not be loaded"));
    document.head.append(script);
  });
  loading.catch(() => { loading = null; }); // a connection that was lost may be back the next time
  return loading;
}

export class Plot {
  /** @param {any} uPlot @param {HTMLElement} holder @param {Chart} chart @param {View} view @param {Acts} acts */
  constructor(uPlot, holder, chart, view, acts) {
    this.holder = holder;
    this.chart = chart;
    this.view = view;
    this.acts = acts;
    this.colours = new Colours(holder);
    this.units = [...new Set(chart.lines.map((line) => line.unit))];
    this.u = new uPlot(this.#options(), this.#columns(), holder);
    this.#pointers();
  }

  /** Draw what the view says now. */
  draw() {
    this.u.setData(this.#columns());
  }

  /** @param {number} width */
  resize(width) {
    if (width > 0 && width !== this.u.width) this.u.setSize({ width, height: HEIGHT });
  }

  /** Put the cursor at a time, or away. @param {number|null} time */
  cursor(time) {
    const left = time === null || time < this.view.from || time > this.view.to ? -10 : this.u.valToPos(time, "x");
    this.u.setCursor({ left, top: left < 0 ? -10 : 0 }, false);
  }

  /** Colours have changed. */
  repaint() {
    this.colours.forget();
    this.u.redraw(false);
  }

  destroy() {
    this.u.destroy();
  }

  #columns() {
    const { data } = this.view;
    const lines = this.chart.lines;
    /** @type {(number|null)[][]} */
    const columns = [data.column(lines[0].name).t];
    for (const line of lines) {
      const { min, max, avg } = data.column(line.name);
      const worked = line.work?.(data);
      columns.push(...(worked ? [worked, worked, worked] : [avg, max, min]));
    }
    return columns;
  }

  #options() {
    const { chart, colours } = this;
    /** @type {Record<string, any>} */
    const scales = { x: { time: true, range: () => [this.view.from, this.view.to] } };
    const series = [{}];
    /** @type {any[]} */
    const bands = [];
    chart.lines.forEach((line, index) => {
      scales[line.unit] = { range: (/** @type {any} */ _u, /** @type {number|null} */ _min, /** @type {number|null} */ max) => [0, UNITS[line.unit].top ?? headroom(max)] };
      const stroke = () => colours.of(`--chart-${line.colour}`);
      series.push({ scale: line.unit, stroke, width: 1.5, dash: DASHES[index], points: { filter: lonely, size: 4, fill: stroke } });
      const silent = { scale: line.unit, width: 0, points: { show: false } };
      series.push(silent, { ...silent });
      bands.push({ series: [index * 3 + 2, index * 3 + 3], fill: () => colours.of(`--chart-${line.colour}-soft`) });
    });
    return {
      width: this.holder.clientWidth || 300, height: HEIGHT, scales, series, bands, axes: this.#axes(),
      legend: { show: false }, padding: [8, this.units.length > 1 ? 0 : 8, 0, 0],
      cursor: {
        y: false, drag: { x: true, y: false, setScale: false }, points: { size: 6 },
        bind: { dblclick: () => () => { this.acts.back(); return null; } },
      },
      hooks: {
        drawClear: [() => this.#spans()],
        draw: [() => this.#limits()],
        setCursor: [(/** @type {any} */ u) => {
          if (!u.cursor.event) return; // put there by us
          if (u.cursor.left >= 0) this.acts.point(u.posToVal(u.cursor.left, "x"));
          else this.acts.leave();
        }],
        setSelect: [(/** @type {any} */ u) => {
          const { left, width } = u.select;
          if (width >= LEAST_DRAG) this.acts.zoom(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }],
      },
    };
  }

  #axes() {
    const { colours } = this;
    const common = {
      stroke: () => colours.of("--muted"), font: "11px system-ui, sans-serif",
      ticks: { show: false }, grid: { stroke: () => colours.of("--line"), width: 1 },
    };
    return [
      { ...common, grid: { show: false }, size: 28, gap: 6, space: 64, values: axisTime },
      ...this.units.map((unit, index) => {
        const { axis, steps } = UNITS[unit];
        return {
          ...common, scale: unit, side: index ? 1 : 3, size: 62, gap: 4, space: 30, grid: index ? { show: false } : common.grid,
          values: (/** @type {any} */ _u, /** @type {number[]} */ splits) => splits.map((value) => axis(value, this.view.snapshot?.overview.costs.currency)),
          ...(steps && { incrs: steps }),
        };
      }),
    ];
  }

  /** When tasks ran, behind everything. */
  #spans() {
    if (!this.chart.host) return;
    const { u, view } = this;
    const { ctx, bbox } = u;
    const end = Math.min(view.to, view.data.to);
    ctx.save();
    for (const span of view.data.tasksBetween(view.from, view.to)) {
      const left = Math.max(u.valToPos(Math.max(span.from, view.from), "x", true), bbox.left);
      const right = Math.min(u.valToPos(Math.min(span.to ?? end, view.to), "x", true), bbox.left + bbox.width);
      const width = Math.max(right - left, devicePixelRatio);
      if (right - left >= LEAST_BAND_PX * devicePixelRatio) {
        ctx.fillStyle = this.colours.of("--chart-span");
        ctx.fillRect(left, bbox.top, width, bbox.height);
      }
      ctx.fillStyle = this.colours.of(span.status === "failed" ? "--bad" : span.status === "running" ? "--info" : "--quiet");
      ctx.fillRect(left, bbox.top, width, 2 * devicePixelRatio);
    }
    ctx.restore();
  }

  /** Thresholds, where the axis reaches them. */
  #limits() {
    const { u } = this;
    const { ctx, bbox } = u;
    ctx.save();
    for (const limit of this.chart.limits ?? []) {
      const value = typeof limit.value === "function" ? limit.value(this.view.snapshot) : limit.value;
      if (value === null || value > u.scales[limit.unit].max) continue;
      const top = Math.round(u.valToPos(value, limit.unit, true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = this.colours.of(`--${limit.level}`);
      ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(bbox.left, top);
      ctx.lineTo(bbox.left + bbox.width, top);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** A click that was no drag; and fingers, which uPlot does not know: sideways drags zoom, all else scrolls. */
  #pointers() {
    const { u, acts } = this;
    const over = /** @type {HTMLElement} */ (u.over);
    const at = (/** @type {PointerEvent} */ event) => event.clientX - over.getBoundingClientRect().left;
    let began = 0;
    over.addEventListener("pointerdown", (event) => { began = at(event); });
    over.addEventListener("click", (event) => {
      const left = event.clientX - over.getBoundingClientRect().left;
      if (Math.abs(left - began) < LEAST_DRAG) acts.pick(u.posToVal(left, "x"));
    });
    over.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") return;
      const now = Math.min(Math.max(at(event), 0), over.clientWidth);
      acts.point(u.posToVal(now, "x"));
      u.setSelect({ left: Math.min(began, now), width: Math.abs(now - began), top: 0, height: over.clientHeight }, false);
    });
    over.addEventListener("pointerup", (event) => {
      if (event.pointerType === "touch") u.setSelect({ ...u.select }, true);
    });
    over.addEventListener("pointercancel", () => u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false));
  }
}

/** Points between two gaps, which no line would show. @param {any} u @param {number} index */
function lonely(u, index) {
  const values = u.data[index];
  const found = [];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) found.push(i);
  }
  return found.length ? found : null;
}

/** The top of an axis that begins at 0. @param {number|null} max */
function headroom(max) {
  return max ? max * 1.08 : 1;
}

/** A theme's colours as a canvas understands them, looked up once. */
class Colours {
  /** @param {HTMLElement} holder */
  constructor(holder) {
    this.probe = document.createElement("span");
    this.probe.hidden = true;
    holder.append(this.probe);
    /** @type {Map<string, string>} */
    this.known = new Map();
  }

  /** @param {string} name of a custom property */
  of(name) {
    let colour = this.known.get(name);
    if (colour === undefined) {
      this.probe.style.setProperty("color", `var(${name})`);
      colour = getComputedStyle(this.probe).color;
      this.known.set(name, colour);
    }
    return colour;
  }

  forget() {
    this.known.clear();
  }
}
