/**
 * Several charts over one time: one cursor, one zoom, one voice. The dashboard's section is one, and so are the
 * charts of a task's lifetime.
 */
import { Card } from "./charts-card.js";
import { ChartData, fetchSeries } from "./charts-data.js";
import { CHARTS, seriesOf } from "./charts-list.js";
import { loadPlot } from "./charts-plot.js";
import { h, setText } from "./dom.js";

/**
 * @typedef {import('./charts-list.js').Chart} Chart
 * @typedef {object} Options
 * @property {(taskId: string) => void} [reveal]              opens a task
 * @property {(from: number, to: number) => void} [zoom]
 * @property {() => boolean} [back]
 */

const nothing = () => {};

export class Board {
  /** @param {HTMLElement} container @param {Chart[]} charts @param {Options} [options] */
  constructor(container, charts, options = {}) {
    this.container = container;
    const begun = Date.now() / 1000; // an axis before there is anything on it
    /** What all cards show; they hold this very object. @type {import('./charts-plot.js').View} */
    this.view = { from: begun - 3600, to: begun, data: new ChartData({ from: 0, to: 0, step: 60, series: {} }), snapshot: null };
    this.live = h("p", { class: "hidden-text", "aria-live": "polite" });
    this.pending = 0; // animation frame of the cursor
    const acts = {
      point: (/** @type {number} */ time) => this.#cursor(time),
      leave: () => this.#cursor(null),
      zoom: options.zoom ?? nothing,
      back: options.back ?? (() => false),
      reveal: options.reveal,
      say: (/** @type {string} */ text) => setText(this.live, text),
    };
    this.cards = charts.map((chart) => {
      /** @type {Card} */
      const card = new Card(chart, this.view, { ...acts, pick: (time) => card.tasksAt(time) });
      return card;
    });
    container.replaceChildren(h("div", { class: "charts-grid" }, ...this.cards.map((card) => card.element)), this.live);

    const of = (/** @type {Element} */ element) => this.cards.find((card) => card.holder === element || card.element === element);
    this.resizing = new ResizeObserver((entries) => {
      for (const { target } of entries) of(target)?.plot?.resize(target.clientWidth);
    });
    // What nobody sees is not drawn; it is brought up to date as it comes into sight.
    this.seeing = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = of(target);
        if (!card) continue;
        card.visible = isIntersecting;
        if (isIntersecting) card.draw();
      }
    }, { rootMargin: "200px" });
    for (const card of this.cards) {
      this.resizing.observe(card.holder);
      this.seeing.observe(card.element);
    }
    this.repaint = () => { for (const card of this.cards) card.plot?.repaint(); };
    this.theming = new MutationObserver(this.repaint);
    this.theming.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.repaint);
  }

  /** Draw, or say why not. @returns {Promise<boolean>} whether there are drawings */
  async begin() {
    try {
      const uPlot = await loadPlot();
      for (const card of this.cards) card.begin(uPlot);
      return true;
    } catch {
      for (const card of this.cards) card.standIn();
      return false;
    }
  }

  /** @param {{from: number, to: number, data: ChartData}} view */
  show(view) {
    Object.assign(this.view, view);
    for (const card of this.cards) card.update();
  }

  destroy() {
    this.resizing.disconnect();
    this.seeing.disconnect();
    this.theming.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    cancelAnimationFrame(this.pending);
    for (const card of this.cards) card.plot?.destroy();
    this.container.replaceChildren();
  }

  /** @param {number|null} time */
  #cursor(time) {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => { for (const card of this.cards) card.at(time); });
  }
}

/**
 * Charts of the host over a task's lifetime, in `container`.
 *
 * @param {HTMLElement} container @param {number} from epoch @param {number|null} to epoch; null: until now
 * @returns {Promise<import('./drawer-host.js').Drawn>} rejects where the history does not answer
 */
export async function drawHostCharts(container, from, to) {
  const charts = CHARTS.filter((chart) => chart.host).map((chart) => ({ ...chart, id: `task-${chart.id}` }));
  const ask = async (/** @type {number} */ begin, /** @type {number|null} */ end) => {
    const answer = await fetchSeries({ series: seriesOf(charts).join(","), from: begin, to: end ?? Math.ceil(Date.now() / 1000), spans: 1 });
    return { from: answer.from, to: answer.to, data: new ChartData(answer) };
  };
  const first = await ask(from, to);
  const board = new Board(container, charts);
  await board.begin();
  board.show(first);
  let turn = 0; // an answer that another has overtaken, or the end, is not shown
  return {
    feed: async (begin, end) => {
      const mine = ++turn;
      const view = await ask(begin, end);
      if (mine === turn) board.show(view);
    },
    end: () => {
      turn += 1;
      board.destroy();
    },
  };
}
