/**
 * The interactive test page: every control of the wire by hand, and every frame as it passes.
 *
 * In the file that works from disk it asks for #server-url and #token, which it keeps in these fields alone.
 *
 * Stable handles: #connect #disconnect #subscribe #unsubscribe #refresh #interval #interval-value #hours #transport
 * #delta, #connection[data-state][data-transport], #log li[data-event][data-direction], #log-filter #log-copy #log-pause
 * #log-clear #log-count, #metrics, #problem, [data-stat="messages_in|messages_out|bytes_in|bytes_out|updates|patches|
 * latency|latency_p50|reconnects|errors|connected_for|client_id"].
 */
import { LiveClient } from "./client.js";
import { copyText } from "./clipboard.js";
import { byId, h, setAttr, setText, show } from "./dom.js";
import * as format from "./format.js";

const LOG_MAX = 500;
const LATENCIES_MAX = 200;

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (byId(id));
const log = byId("log");

/** @type {LiveClient|null} */
let client = null;
let subscribed = false;
let paused = false;
let complaint = ""; // about what stands in the fields
/** @type {{at: Date, direction: string, event: string, bytes: number, text: string}[]} */
let entries = [];
const stats = {
  messages_in: 0, messages_out: 0, bytes_in: 0, bytes_out: 0, updates: 0, patches: 0, reconnects: 0, errors: 0,
};
/** @type {number[]} */
let latencies = [];
let liveSince = 0;
let wasLive = false;

// -- the connection ------------------------------------------------------------------------------

function connect() {
  client?.stop();
  complaint = "";
  wasLive = false;
  subscribed = false;
  const transport = /** @type {'ws'|'sse'|'poll'} */ (input("transport").value);
  const own = new LiveClient({
    ...server(), hours: hours(), interval: Number(input("interval").value), delta: input("delta").checked,
    subscribe: transport !== "ws", transports: [transport],
  });
  client = own;
  own.addEventListener("state", () => { if (client === own) showState(); });
  own.addEventListener("frame", (event) => { if (client === own) frame(/** @type {CustomEvent} */ (event).detail); });
  own.addEventListener("snapshot", (event) => { if (client === own) snapshot(/** @type {CustomEvent} */ (event).detail); });
  own.start();
}

/** Where to, and with what: this page's own server and session, or what the fields of the file from disk say. */
function server() {
  const field = /** @type {HTMLInputElement|null} */ (document.getElementById("server-url"));
  if (!field) return {};
  const token = input("token").value.trim();
  const given = field.value.trim().replace(/^ws(s?):/i, "http$1:");
  const base = new URL(/^https?:/i.test(given) ? given : `http://${given}`).origin;
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) throw new Error("Paste a token first: three parts with dots between them.");
  return { base, token };
}

function tryToConnect() {
  try {
    connect();
  } catch (error) {
    client = null;
    complaint = error instanceof TypeError ? "That is no address of a server." : String(error instanceof Error ? error.message : error);
    note("problem", complaint);
    showState();
  }
}

function disconnect() {
  client?.stop();
  client = null;
  subscribed = false;
  showState();
  note("disconnected", "by this page");
}

function hours() {
  const value = Math.round(Number(input("hours").value));
  return Number.isFinite(value) ? value : 24;
}

function showState() {
  const state = client?.state ?? { phase: "idle", transport: "ws", retryAt: null, reason: null, code: null };
  const element = byId("connection");
  const before = element.dataset.state;
  setAttr(element, "data-state", state.phase);
  setAttr(element, "data-transport", state.transport);
  if (state.phase === "live" && before !== "live") {
    liveSince = performance.now();
    if (wasLive) stats.reconnects += 1;
    wasLive = true;
  }
  if (state.phase !== "live") {
    liveSince = 0;
    subscribed = false;
  }
  if (state.phase !== before && state.reason) note(state.phase, `${state.code ?? ""} ${state.reason}`.trim());
  const problem = state.phase === "live" ? "" : state.reason || complaint;
  setText(byId("problem"), problem);
  show(byId("problem"), Boolean(problem));
  const words = { idle: "disconnected", connecting: "connecting …", live: "connected", waiting: "reconnecting", signedout: "signed out", stopped: "stopped" };
  const wait = state.phase === "waiting" && state.retryAt !== null ? ` in ${Math.max(0, Math.ceil((state.retryAt - performance.now()) / 1000))} s` : "";
  setText(/** @type {Element} */ (element.querySelector(".word")), words[state.phase] + wait);
  const live = state.phase === "live";
  const duplex = state.transport === "ws";
  const enabled = { connect: !client || ["stopped", "signedout"].includes(state.phase), disconnect: Boolean(client), subscribe: live && duplex, unsubscribe: live && duplex && subscribed, refresh: live && (subscribed || !duplex) };
  for (const [id, on] of Object.entries(enabled)) /** @type {HTMLButtonElement} */ (byId(id)).disabled = !on;
}

/** @param {Promise<{event: string, data: any, ms: number}|null>} request */
async function timed(request) {
  const answer = await request;
  if (!answer) return;
  latencies = [...latencies.slice(1 - LATENCIES_MAX), answer.ms];
  showStats();
}

byId("connect").addEventListener("click", tryToConnect);
byId("disconnect").addEventListener("click", disconnect);
byId("subscribe").addEventListener("click", () => {
  if (!client) return;
  client.hours = hours();
  client.interval = Number(input("interval").value);
  client.delta = input("delta").checked;
  client.forget(); // by hand: the full answer, not a resumed one
  void timed(client.subscribe());
});
byId("unsubscribe").addEventListener("click", () => { if (client) void timed(client.unsubscribe()); });
byId("refresh").addEventListener("click", () => { if (client) void timed(/** @type {any} */ (client.refresh())); });
input("interval").addEventListener("input", () => setText(byId("interval-value"), `${input("interval").value} s`));
input("interval").addEventListener("change", () => {
  const seconds = Number(input("interval").value);
  if (client && (subscribed || client.state.transport !== "ws")) void timed(client.setInterval(seconds));
});

// -- frames --------------------------------------------------------------------------------------

/** @param {{direction: string, event: string, data: any, bytes: number}} detail */
function frame({ direction, event, data, bytes }) {
  if (direction === "in") {
    stats.messages_in += 1;
    stats.bytes_in += bytes;
    if (event === "metrics_update" || event === "metrics_patch") stats.updates += 1;
    if (event === "metrics_patch") stats.patches += 1;
    if (event === "error") stats.errors += 1;
    if (event === "subscribed") subscribed = true;
    if (event === "unsubscribed") subscribed = false;
    if (event === "connected") setText(stat("client_id"), String(data?.client_id ?? format.UNKNOWN));
  } else {
    stats.messages_out += 1;
    stats.bytes_out += bytes;
  }
  add(direction, event, bytes, data === null || data === undefined ? "" : JSON.stringify(data));
  showState();
  showStats();
}

/** @param {{snapshot: any, event: string, bytes: number}} detail */
function snapshot({ snapshot: data, bytes }) {
  const view = byId("metrics");
  // somebody is selecting in it: leave it alone
  if (getSelection()?.containsNode(view, true) && getSelection()?.toString()) return;
  setText(view, JSON.stringify(data, null, 2));
  setText(byId("metrics-info"), `${format.clock(Date.now() / 1000)} · ${format.bytes(bytes)} · ${data.hours} h · ${data.position}`);
}

/** @param {string} name */
function stat(name) {
  return /** @type {HTMLElement} */ (document.querySelector(`[data-stat="${name}"]`));
}

function showStats() {
  for (const [name, value] of Object.entries(stats)) {
    setText(stat(name), name.startsWith("bytes") ? format.bytes(value) : format.int(value));
    setAttr(stat(name), "data-value", String(value));
  }
  const sorted = [...latencies].sort((a, b) => a - b);
  const words = (/** @type {number|undefined} */ ms) => (ms === undefined ? format.UNKNOWN : `${ms.toFixed(1)} ms`);
  setText(stat("latency"), words(latencies.at(-1)));
  setText(stat("latency_p50"), words(sorted[Math.floor(sorted.length / 2)]));
  setText(stat("connected_for"), liveSince ? format.duration((performance.now() - liveSince) / 1000) : format.UNKNOWN);
}

// -- the log -------------------------------------------------------------------------------------

/** @param {string} event @param {string} text */
function note(event, text) {
  add("note", event, 0, text);
}

/** @param {string} direction @param {string} event @param {number} bytes @param {string} text */
function add(direction, event, bytes, text) {
  const entry = { at: new Date(), direction, event, bytes, text };
  entries.push(entry);
  if (entries.length > LOG_MAX) entries = entries.slice(-LOG_MAX);
  if (!paused) {
    if (matches(entry)) log.prepend(row(entry));
    while (log.childElementCount > LOG_MAX) log.lastElementChild?.remove();
    count();
  }
}

/** @param {typeof entries[number]} entry */
function matches(entry) {
  const words = input("log-filter").value.trim().toLowerCase();
  return !words || `${entry.direction} ${entry.event} ${entry.text}`.toLowerCase().includes(words);
}

/** @param {Date} at */
function time(at) {
  return format.clock(at.getTime() / 1000);
}

/** @type {Record<string, string>} */
const ARROWS = { in: "←", out: "→", note: "·" };

/** @param {typeof entries[number]} entry */
function row(entry) {
  const details = h("details", {},
    h("summary", {}, h("span", {}, time(entry.at)), h("span", { class: "arrow" }, ARROWS[entry.direction] ?? ""),
      h("span", { class: "event" }, entry.event), h("span", { class: "size" }, entry.bytes ? format.bytes(entry.bytes) : ""),
      h("span", { class: "short" }, entry.text.slice(0, 200))));
  // a snapshot's text is large: written only when somebody opens it
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("pre")) details.append(h("pre", {}, pretty(entry.text)));
  });
  return h("li", { "data-direction": entry.direction, "data-event": entry.event }, details);
}

/** @param {string} text */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function redraw() {
  log.replaceChildren(...entries.filter(matches).reverse().map(row));
  count();
}

function count() {
  const shown = log.childElementCount;
  setText(byId("log-count"), shown === entries.length ? format.plural(shown, "event") : `${shown} of ${format.plural(entries.length, "event")}`);
}

byId("log-filter").addEventListener("input", redraw);
byId("log-clear").addEventListener("click", () => { entries = []; redraw(); });
byId("log-pause").addEventListener("click", () => {
  paused = !paused;
  setAttr(byId("log-pause"), "aria-pressed", String(paused));
  setText(byId("log-pause"), paused ? "Resume" : "Pause");
  if (!paused) redraw();
});
byId("log-copy").addEventListener("click", () => {
  const lines = entries.filter(matches).map((entry) => `${entry.at.toISOString()} ${ARROWS[entry.direction] ?? ""} ${entry.event} ${entry.text}`);
  void copy(byId("log-copy"), lines.join("\n"));
});
byId("metrics-copy").addEventListener("click", () => void copy(byId("metrics-copy"), byId("metrics").textContent ?? ""));

/** @param {HTMLElement} button @param {string} text */
async function copy(button, text) {
  const done = await copyText(text);
  setText(button, done ? "Copied" : "Select and copy by hand");
  setTimeout(() => setText(button, "Copy"), 1500);
}

setInterval(() => { showState(); showStats(); }, 500);
showState();
showStats();
