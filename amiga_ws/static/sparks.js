/** The tiles' small curves: the shape of the charts' time, no axis, no number. */
import { byId } from "./dom.js";

/** @typedef {import('./charts-data.js').ChartData} ChartData */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 100;
const HEIGHT = 24;
const LEAST = 6; // points that have a shape
const POINTS = 60; // an even share of the columns each, the highest of them

/** tile → series, and the top of its scale where it has one @type {[string, string, number|null][]} */
const SPARKS = [
  ["tile-bot", "bot.cpu", null],
  ["tile-tasks", "tasks.running", null],
  ["tile-spend", "cost.usd", null],
  ["tile-tokens", "tokens.out", null],
  ["tile-host", "host.cpu", 100],
];

/** @param {ChartData} data */
export function renderSparks(data) {
  for (const [tile, name, top] of SPARKS) {
    const { t, max } = data.column(name);
    draw(byId(tile), path(t, max, data.from, data.to, top));
  }
}

/** @param {number[]} t @param {(number|null)[]} values @param {number} from @param {number} to @param {number|null} top */
function path(t, values, from, to, top) {
  /** @type {(number|null)[]} */
  const slots = Array(POINTS).fill(null);
  t.forEach((time, index) => {
    const value = values[index];
    const slot = Math.floor(((time - from) / (to - from)) * POINTS);
    if (value !== null && slot >= 0 && slot < POINTS) slots[slot] = Math.max(slots[slot] ?? 0, value);
  });
  const scale = top ?? Math.max(...slots.map((value) => value ?? 0));
  let pen = "M";
  return slots.map((value, index) => {
    if (value === null) {
      pen = "M"; // a gap stays one
      return "";
    }
    const step = `${pen}${((index * WIDTH) / (POINTS - 1)).toFixed(1)} ${(HEIGHT - 1 - (scale ? value / scale : 0) * (HEIGHT - 2)).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
}

/** @param {HTMLElement} tile @param {string} d */
function draw(tile, d) {
  let svg = tile.querySelector("svg.spark");
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(SVG, "path"));
    tile.querySelector("h2")?.after(svg);
  }
  const line = /** @type {Element} */ (svg.firstElementChild);
  if (line.getAttribute("d") !== d) line.setAttribute("d", d);
  svg.toggleAttribute("hidden", d.split("L").length < LEAST);
}
