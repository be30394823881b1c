/**
 * The five tiles and the host panel: what is not a plain number of the snapshot. Plain ones are bound in the markup.
 */
import { byId, h, reconcile, setAttr, setIcon, setText, show } from "./dom.js";
import * as format from "./format.js";
import { meter } from "./fields.js";
import { now, since } from "./clock.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */

/** A bot whose newest event is older is called silent. */
const SILENT_S = 180;

/** @param {Snapshot} snapshot */
export function renderTiles(snapshot) {
  bot(snapshot);
  statusBar(snapshot);
  spend(snapshot);
  tokens(snapshot);
  host(snapshot);
}

/** @param {Snapshot} snapshot */
function bot(snapshot) {
  const process = snapshot.overview.system.processes.amiga;
  const source = snapshot.sources.amiga;
  const state = byId("bot-state");
  const last = lastEvent(snapshot);
  const moving = last !== null && now() - last < SILENT_S;
  const [level, glyph, word, note] = source?.state === "missing" ? ["bad", "failed", "Not found", ""]
    : process?.alive ? ["ok", "completed", "Alive", ""]
    : process ? ["bad", "failed", "Ended", `process ${process.pid} is gone`]
    // no process in sight (another machine, a container): its files still tell that something works
    : moving ? ["ok", "running", "Active", "by its files; its process is not seen"]
    : ["none", "unknown", "Unknown", "its process is not seen"];
  setAttr(state, "data-level", level);
  setIcon(state, glyph);
  setText(/** @type {Element} */ (state.querySelector(".word")), word);
  setText(byId("bot-note"), note);
  since(byId("bot-last"), last, "fresh");
  botSilence(snapshot);
}

/** @param {Snapshot} snapshot @returns {number|null} */
function lastEvent(snapshot) {
  const newest = snapshot.activity[0]?.timestamp;
  const touched = snapshot.tasks.map((task) => task.updated_at ?? 0);
  const last = Math.max(newest ?? 0, ...touched);
  return last > 0 ? last : null;
}

/** "no event for 3 m" grows without news; called with every snapshot and once a second. @param {Snapshot} snapshot */
export function botSilence(snapshot) {
  const last = lastEvent(snapshot);
  const silent = last === null ? 0 : now() - last;
  // only news that could have come counts as missing: not from a broken source, nor over a lost connection
  const readable = snapshot.sources.amiga?.state === "ok" && !document.body.hasAttribute("data-lost");
  const busy = readable && (snapshot.overview.tasks.running ?? 0) > 0;
  for (const tile of [byId("tile-bot"), byId("tile-tasks")]) {
    const note = /** @type {HTMLElement} */ (tile.querySelector(".tile-note"));
    show(note, busy && silent > SILENT_S);
    if (!note.hidden) setText(note, `no event for ${format.age(silent)} while tasks run`);
  }
}

/** @param {Snapshot} snapshot */
function statusBar(snapshot) {
  const { completed, failed, stopped } = snapshot.overview.tasks.window;
  const sum = (completed ?? 0) + (failed ?? 0) + (stopped ?? 0);
  for (const [name, count] of Object.entries({ completed, failed, stopped })) {
    const bar = /** @type {HTMLElement} */ (byId("tasks-bar").querySelector(`[data-status="${name}"]`));
    bar.style.setProperty("flex-grow", String(sum ? (count ?? 0) : 0));
  }
  setAttr(byId("tasks-bar"), "data-empty", sum ? null : "");
}

/** @param {Snapshot} snapshot */
function spend(snapshot) {
  const { total_cost, by_model, unpriced_calls, currency, budget, prices_dated, utc_offset_s: ahead } = snapshot.overview.costs;
  const zone = format.otherZone(ahead);
  setText(byId("spend-zone"), zone && ` in ${zone}`); // today there
  setText(byId("spend-rate"), format.known(total_cost) ? `${format.money(total_cost / snapshot.hours, currency)}/h` : format.UNKNOWN);
  show(byId("spend-prices"), Boolean(prices_dated));
  const unpriced = byId("spend-unpriced");
  show(unpriced, (unpriced_calls ?? 0) > 0);
  if (!unpriced.hidden) setText(unpriced, `${format.plural(unpriced_calls, "call")} without a price, not counted`);
  const models = Object.entries(by_model ?? {}).sort(([, a], [, b]) => (b.cost ?? 0) - (a.cost ?? 0)).slice(0, 3);
  reconcile(byId("spend-models"), models, ([name]) => name,
    () => h("li", {}, h("span", { class: "name" }), h("span", { class: "num" })),
    (row, [name, model]) => {
      setText(/** @type {Element} */ (row.firstElementChild), name);
      setText(/** @type {Element} */ (row.lastElementChild), format.money(model.cost, currency));
      row.title = `${name}: ${format.plural(model.calls, "call")}`;
    });
  const gauge = byId("spend-budget");
  show(gauge, budget !== null && budget !== undefined);
  if (budget) {
    meter(/** @type {HTMLElement} */ (gauge.querySelector(".meter")), format.known(budget.share) ? budget.share * 100 : null);
    setText(/** @type {Element} */ (gauge.querySelector(".num")),
      `${format.known(budget.share) ? format.percent(budget.share * 100) : format.UNKNOWN} of ${format.money(budget.limit, currency)}`);
  }
  const until = byId("spend-until");
  show(until, format.known(budget?.projected_day) && budget.projected_day > now());
  if (!until.hidden) setText(until, `used up on ${format.known(ahead) ? format.dayThere(budget.projected_day, ahead) : format.day(budget.projected_day)} at the pace of this month`);
}

/** @param {Snapshot} snapshot */
function tokens(snapshot) {
  const api = snapshot.overview.claude_api;
  const parts = [api.total_input_tokens, api.total_output_tokens, api.cache_creation_tokens, api.cache_read_tokens];
  const some = parts.filter(format.known);
  const sum = some.length ? some.reduce((a, b) => a + b, 0) : null;
  const total = byId("tokens-total");
  setText(total, format.compact(sum));
  setAttr(total, "data-value", sum === null ? null : String(sum));
  total.title = sum === null ? "" : `${format.int(sum)} tokens${some.length < 4 ? "; some kinds are unknown" : ""}`;
}

/** @param {Snapshot} snapshot */
function host(snapshot) {
  const system = snapshot.overview.system;
  const fullest = system.disks.reduce((/** @type {any} */ a, /** @type {any} */ b) => (!a || b.percent > a.percent ? b : a), null);
  const disk = byId("host-disk");
  setText(disk, format.percent(fullest?.percent));
  setAttr(disk, "data-value", fullest ? String(fullest.percent) : null);
  disk.title = fullest ? `${fullest.mount}: ${format.bytes(fullest.used)} of ${format.bytes(fullest.total)}` : "";
  meter(byId("host-disk-meter"), fullest?.percent ?? null);

  reconcile(byId("host-cores"), system.per_cpu, (_, index) => String(index),
    () => h("span", { class: "core" }),
    (bar, value) => { meter(bar, value); });
  byId("host-cores").title = system.per_cpu.map((/** @type {number} */ value, /** @type {number} */ index) => `core ${index}: ${Math.round(value)} %`).join("\n");
  reconcile(byId("host-disks"), system.disks, (item) => item.mount,
    () => h("li", {}, h("span", { class: "name" }), h("span", { class: "meter", "aria-hidden": "true" }), h("span", { class: "num" })),
    (row, item) => {
      const [name, bar, number] = /** @type {any} */ (row.children);
      setText(name, item.mount);
      meter(bar, item.percent);
      setText(number, `${format.percent(item.percent)} of ${format.bytes(item.total)}`);
    });
  show(byId("host-none"), system.disks.length === 0 && system.per_cpu.length === 0);
}

