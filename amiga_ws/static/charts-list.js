/**
 * Which charts there are, in their order on the page. Data alone: nothing is drawn or fetched here.
 *
 * Series are told apart by word, colour and dash: three ways, of which one is enough.
 */
import * as format from "./format.js";

/**
 * @typedef {import('./charts-data.js').ChartData} ChartData
 *
 * @typedef {(value: unknown, currency?: string) => string} Words
 *
 * @typedef {object} Line
 * @property {string} name          series of the history; of a worked-out line its first one
 * @property {string} label
 * @property {string} unit          a key of UNITS; lines of one unit share an axis
 * @property {number} colour        1-5, see charts.css
 * @property {(data: ChartData) => (number|null)[]} [work]   makes the line from several series
 *
 * @typedef {object} Limit
 * @property {string} unit
 * @property {string} label
 * @property {number|((snapshot: any) => number|null)} value
 * @property {'warn'|'bad'} level
 *
 * @typedef {object} Chart
 * @property {string} id
 * @property {string} title
 * @property {boolean} [host]       task spans lie behind it
 * @property {Line[]} lines
 * @property {Limit[]} [limits]
 */

const perMinute = (/** @type {unknown} */ value) => (format.known(value) ? `${short(value)}/min` : format.UNKNOWN);

/** @param {unknown} value */
function short(value) {
  if (!format.known(value)) return format.UNKNOWN;
  const size = Math.abs(value);
  return size === 0 || size >= 100 || Number.isInteger(value) ? format.compact(value) : value.toFixed(size >= 10 ? 1 : 2);
}

/** Labels of an axis are round numbers: "8 MiB/s", not "8.00 MiB/s". @param {Words} words */
const round = (words) => (/** @type {unknown} */ value, /** @type {string|undefined} */ currency) => words(value, currency).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
const share = (/** @type {unknown} */ value) => format.percent(value, 1);

// Round steps of an axis where they are not those of ten.
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const CLOCK_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 20e3, 30e3, ...[1, 2, 5, 10, 20, 30, 60, 120, 240, 720, 1440].map((minutes) => minutes * 60e3)];

/** How values of a unit are written, and how far its axis reaches: fixed, or from 0 to what there is.
 * @type {Record<string, {words: Words, axis: Words, top?: number, steps?: number[]}>} */
export const UNITS = {
  percent: { words: share, axis: round(share), top: 100 },
  share: { words: share, axis: round(share) },
  load: { words: (value) => format.fixed(value, 2), axis: round(short) },
  count: { words: short, axis: round(short) },
  minute: { words: perMinute, axis: round(short) },
  rate: { words: format.rate, axis: round(format.rate), steps: POWERS },
  bytes: { words: format.bytes, axis: round(format.bytes), steps: POWERS },
  ms: { words: format.milliseconds, axis: round(format.milliseconds), steps: CLOCK_MS },
  money: { words: (value, currency) => (format.known(value) ? `${format.money(value, currency)}/h` : format.UNKNOWN), axis: round(format.money) },
};

// The levels at which the meters of the tiles change colour.
const FULL = /** @type {Limit[]} */ ([
  { unit: "percent", value: 85, label: "85 %", level: "warn" },
  { unit: "percent", value: 95, label: "95 %", level: "bad" },
]);

/** @param {string} prefix @param {string} unit @returns {Line[]} */
function families(prefix, unit) {
  return ["opus", "sonnet", "haiku", "other"].map((family, index) => (
    { name: `${prefix}.${family}`, label: family === "other" ? "other models" : family, unit, colour: index + 1 }));
}

/** @type {Chart[]} */
export const CHARTS = [
  { id: "tasks", title: "Tasks at work", lines: [
    { name: "tasks.running", label: "running", unit: "count", colour: 1 },
    { name: "tasks.pending", label: "pending", unit: "count", colour: 2 },
  ] },
  { id: "ends", title: "Tasks ended", lines: [
    { name: "tasks.completed", label: "completed", unit: "minute", colour: 3 },
    { name: "tasks.failed", label: "failed", unit: "minute", colour: 2 },
    { name: "tasks.stopped", label: "stopped", unit: "minute", colour: 4 },
  ] },
  { id: "calls", title: "Tool calls and error rate", lines: [
    { name: "tools.calls", label: "calls", unit: "minute", colour: 1 },
    { name: "tools.errors", label: "failed", unit: "share", colour: 2, work: errorShare },
  ] },
  { id: "durations", title: "Tool duration", lines: [
    { name: "tools.p50", label: "p50 (median)", unit: "ms", colour: 1 },
    { name: "tools.p95", label: "p95", unit: "ms", colour: 2 },
  ] },
  { id: "spend", title: "Spend by model", lines: families("cost", "money") },
  { id: "models", title: "Tokens by model", lines: families("tokens", "minute") },
  { id: "tokens", title: "Tokens by kind", lines: [
    { name: "tokens.in", label: "in", unit: "minute", colour: 1 },
    { name: "tokens.out", label: "out", unit: "minute", colour: 2 },
    { name: "tokens.cache", label: "cache", unit: "minute", colour: 3 },
  ] },
  { id: "cpu", title: "CPU and load", host: true, lines: [
    { name: "host.cpu", label: "CPU", unit: "percent", colour: 1 },
    { name: "host.load1", label: "load, 1 min", unit: "load", colour: 2 },
  ], limits: [...FULL, { unit: "load", value: (snapshot) => snapshot?.overview.system.per_cpu.length || null, label: "as many as cores", level: "warn" }] },
  { id: "memory", title: "Memory and swap", host: true, lines: [
    { name: "host.mem", label: "memory", unit: "percent", colour: 1 },
    { name: "host.swap", label: "swap", unit: "percent", colour: 2 },
  ], limits: FULL },
  { id: "disk", title: "Disk and its traffic", host: true, lines: [
    { name: "host.disk", label: "fullest disk", unit: "percent", colour: 1 },
    { name: "host.read", label: "read", unit: "rate", colour: 2 },
    { name: "host.write", label: "write", unit: "rate", colour: 3 },
  ], limits: FULL },
  { id: "network", title: "Network", host: true, lines: [
    { name: "host.rx", label: "in", unit: "rate", colour: 1 },
    { name: "host.tx", label: "out", unit: "rate", colour: 2 },
  ] },
  { id: "bot", title: "Bot: memory and CPU", host: true, lines: [
    { name: "bot.rss", label: "memory", unit: "bytes", colour: 1 },
    { name: "bot.cpu", label: "CPU", unit: "share", colour: 2 },
  ] },
  { id: "threads", title: "Bot: threads", host: true, lines: [
    { name: "bot.threads", label: "threads", unit: "count", colour: 1 },
  ] },
];

/** Failed calls of 100 that ended. @param {ChartData} data */
function errorShare(data) {
  const calls = data.column("tools.calls").avg;
  return data.column("tools.errors").avg.map((failed, index) => {
    const all = calls[index];
    return failed === null || !all ? null : (100 * failed) / all;
  });
}

/** Series that come minute by minute, some time after the fact: asked for again, as no snapshot brings them. */
export const BY_MINUTE = /^(tasks\.(completed|failed|stopped)|tools\.|tokens\.|cost\.)/;

/** All series the charts need. @param {Chart[]} charts */
export function seriesOf(charts) {
  const extra = charts.some((chart) => chart.id === "spend") ? ["cost.usd"] : [];
  return [...new Set([...charts.flatMap((chart) => chart.lines.map((line) => line.name)), ...extra])];
}
