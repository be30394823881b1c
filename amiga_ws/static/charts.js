/**
 * The dashboard's charts: one request fills them, the stream moves them on, a drag looks closer.
 *
 * Stable handles (kept; additions only):
 *
 *   #charts[data-state]           loading | ready | error; [data-plot] = drawn | missing
 *   #charts-window button[data-hours][aria-pressed], #charts-back, #charts-note, #charts-csv, #charts-json
 *   #chart-cpu, #chart-memory, …  one article each: .chart-plot, .chart-toggle, .chart-table, .chart-tasks
 */
import { Board } from "./charts-board.js";
import { ChartData, fetchSeries, reading, seriesUrl } from "./charts-data.js";
import { BY_MINUTE, CHARTS, seriesOf } from "./charts-list.js";
import { zone } from "./charts-time.js";
import { byId, comesNear, setAttr, setText, show } from "./dom.js";
import { now } from "./clock.js";
import * as address from "./address.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */

const ALL = seriesOf(CHARTS);
const COUNTED = ALL.filter((name) => BY_MINUTE.test(name));
const AGAIN_MS = 60_000; // what comes by minute
const RETRY_MS = 3_000;
const LEAST_ZOOM_S = 20;
const NEAR_PX = 300; // below the window: the library comes before its charts do
const MISSING = "Charts cannot be drawn: this installation lacks the chart library (uplot.js), which is fetched when the package is built. Install it again (scripts/venv, or pip install). Until then tables stand in.";
const UNREACHABLE = "Charts cannot be drawn: the chart library did not load. Tables stand in; reload the page to try again.";

export class Charts {
  /** @param {number} hours @param {{reveal: (taskId: string) => void, frozen: () => boolean, shown?: (data: ChartData, snapshot: Snapshot|null) => void}} options */
  constructor(hours, options) {
    this.root = byId("charts");
    const own = Number(address.parameter("charts"));
    this.hours = this.#buttons().some((button) => Number(button.dataset.hours) === own) ? own : hours;
    this.options = options;
    /** @type {ChartData|null} */
    this.data = null;
    /** @type {Snapshot|null} */
    this.snapshot = null;
    /** @type {{from: number, to: number, data: ChartData}|null} */
    this.closer = null; // what a drag looks at
    this.again = 0;
    this.live = false; // the stream is: nothing is asked again without it
    this.asking = new AbortController();
    this.board = new Board(byId("charts-board"), CHARTS, {
      reveal: options.reveal, zoom: (from, to) => void this.zoom(from, to), back: () => this.back(),
    });
    for (const button of this.#buttons()) button.addEventListener("click", () => this.setHours(Number(button.dataset.hours), true));
    byId("charts-back").addEventListener("click", () => this.back());
    setText(byId("charts-zone"), `times in ${zone()}`);
    // A hidden page is told little and its clock hardly ticks.
    document.addEventListener("visibilitychange", () => { if (!document.hidden && this.data) this.missed(); });
    if (!this.#installed) {
      for (const card of this.board.cards) card.standIn();
      this.#note(MISSING);
    }
  }

  get #installed() {
    return this.root.dataset.plot !== "missing";
  }

  /** Draw, once that is nearly looked at: the library is a quarter of all that the page loads. */
  async #begin() {
    await comesNear(this.root, NEAR_PX);
    const drawn = await this.board.begin();
    setAttr(this.root, "data-plot", drawn ? "drawn" : "missing");
    if (!drawn) this.#note(UNREACHABLE);
    this.#draw();
  }

  #buttons() {
    return /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#charts-window button")]);
  }

  // -- what is shown -----------------------------------------------------------------------------

  /** @param {number} hours @param {boolean} [own] chosen here, and not for the whole page */
  setHours(hours, own = false) {
    this.hours = hours;
    address.put({ charts: own ? String(hours) : "" });
    this.closer = null;
    void this.load(own);
  }

  /** With the stream everything is asked anew; without it (signed out, say) nothing is asked again. @param {boolean} live */
  follow(live) {
    this.live = live;
    clearTimeout(this.again);
    if (live) void this.load();
    else setText(byId("charts-error"), ""); // the banner says what is wrong
  }

  /** The stream went on and this page took nothing in: that was no gap. */
  missed() {
    if (this.live) void this.load();
  }

  /**
   * Ask for everything anew: at the start, for another window, after a lost connection.
   * @param {boolean} [own] to be shown even while the values stand still
   */
  async load(own = false) {
    for (const button of this.#buttons()) setAttr(button, "aria-pressed", String(Number(button.dataset.hours) === this.hours));
    clearTimeout(this.again);
    this.asking.abort();
    const { signal } = (this.asking = new AbortController());
    this.#links();
    try {
      this.data = new ChartData(await fetchSeries({ series: ALL.join(","), hours: this.hours, spans: 1 }, signal));
      setAttr(this.root, "data-state", "ready");
      setText(byId("charts-error"), "");
      this.#later(() => this.#count(), AGAIN_MS);
    } catch (error) {
      this.#failed(error, signal, () => this.load(own));
    }
    if (!signal.aborted && (own || !this.options.frozen())) this.#draw();
  }

  /** The minutes that have passed since. */
  async #count() {
    const { signal } = this.asking;
    try {
      if (!document.hidden && !this.options.frozen() && this.data) {
        this.data.merge(await fetchSeries({ series: COUNTED.join(","), hours: this.hours, spans: 1 }, signal));
        if (!signal.aborted) this.#draw();
      }
      this.#later(() => this.#count(), AGAIN_MS);
    } catch (error) {
      this.#failed(error, signal, () => this.#count());
    }
  }

  /** @param {() => void} action @param {number} ms */
  #later(action, ms) {
    if (this.live) this.again = window.setTimeout(action, ms);
  }

  /** @param {unknown} error @param {AbortSignal} signal @param {() => void} retry */
  #failed(error, signal, retry) {
    if (signal.aborted) return;
    setAttr(this.root, "data-state", "error");
    const why = error instanceof TypeError ? "" : `: ${error instanceof Error ? error.message : "unknown"}`; // a browser's own words tell nobody anything
    setText(byId("charts-error"), `History does not answer${why}.${this.live ? " Trying again." : ""}`);
    this.#later(retry, RETRY_MS);
  }

  /** Look closer: with the finest points there are of that time. @param {number} from @param {number} to */
  async zoom(from, to) {
    if (!this.data || to - from < LEAST_ZOOM_S) return;
    const closer = (this.closer = { from, to, data: this.data });
    this.#draw();
    this.#links();
    try {
      const answer = await fetchSeries({ series: ALL.join(","), from: Math.floor(from), to: Math.ceil(to), spans: 1 }, this.asking.signal);
      if (this.closer !== closer) return;
      closer.data = new ChartData(answer);
      this.#draw();
    } catch {
      // the coarser points stay
    }
  }

  back() {
    if (!this.closer) return false;
    this.closer = null;
    this.#links();
    this.#draw();
    return true;
  }

  #draw() {
    show(byId("charts-back"), this.closer !== null);
    if (!this.data) return;
    const { from, to } = this.data;
    this.board.view.snapshot = this.snapshot;
    this.board.show(this.closer ?? { from, to, data: this.data });
    this.options.shown?.(this.data, this.snapshot);
  }

  #links() {
    /** @type {Record<string, number>} */
    const time = this.closer ? { from: Math.floor(this.closer.from), to: Math.ceil(this.closer.to) } : { hours: this.hours };
    const query = { series: ALL.join(","), ...time };
    byId("charts-csv").setAttribute("href", seriesUrl({ ...query, format: "csv" }));
    byId("charts-json").setAttribute("href", seriesUrl({ ...query, format: "json" }));
  }

  /** @param {string} text */
  #note(text) {
    const note = byId("charts-note");
    setText(note, text);
    show(note, true);
  }

  // -- what the stream brings --------------------------------------------------------------------

  /** @param {Snapshot} snapshot */
  update(snapshot) {
    if (!this.snapshot && this.#installed) void this.#begin(); // an empty page is short: all of it is near
    this.snapshot = snapshot;
    if (!this.data) return;
    this.data.noteTasks(snapshot);
    this.data.note(now(), reading(snapshot));
    if (!this.closer) this.#draw();
  }

  /** The stream lives and has no news: what it said last still holds. Called once a second while it does. */
  tick() {
    if (this.data && this.snapshot && this.data.note(now(), reading(this.snapshot)) && !this.closer) this.#draw();
  }
}
