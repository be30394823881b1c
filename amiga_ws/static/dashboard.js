/**
 * The dashboard: joins the live client to the views. Nothing is fetched or computed here.
 *
 * Stable handles for tests, user scripts and screenshots (kept; additions only):
 *
 *   #verdict[data-verdict]        ok | attention | degraded | down | stale | loading; its .word is the word shown
 *   #verdict-reason, #data-age
 *   #connection[data-state][data-transport]   connecting | live | waiting | signedout | stopped | idle; ws | sse | poll
 *   #banner                       connection lost, page stopped or signed out; [data-retry] tries again at once, or leads to the sign-in
 *   #signin-panel                 signed out: #signin-panel-token, #signin-panel-button, #signin-panel-message
 *   #demo-banner                  only when the server runs the demo (html[data-demo="1"])
 *   #no-amiga                     first run; #no-amiga-path, #no-amiga-hint
 *   #tile-bot #tile-tasks #tile-spend #tile-tokens #tile-host     [data-state] = error | stale | missing | loading of its source
 *   [data-field="overview.tasks.total"]   every number: its path in the snapshot; [data-value] the exact value.
 *                                 Inside a list row the path is the row's own, e.g. [data-field="tool_calls"]
 *   #attention[data-count], #attention-list li[data-kind][data-severity], #attention-clear
 *   #tasks tbody tr[data-task-id][data-status]; #chips button[data-status], #search, #tasks-count, #tasks-empty
 *   #drawer[data-kind][data-id][data-state]    a task or session in full; reading | read | error. #waterfall li[data-state][data-tool],
 *                                 #drawer-title, #drawer-close, #drawer-error, #drawer-log, #drawer-result, #drawer-sessions, #drawer-host
 *   #sort, th [data-sort], #export-csv, #export-json
 *   #sessions li[data-session-id], #tools-list li[data-tool], #errors li[data-class]
 *   #activity li[data-kind], #activity-new
 *   #freeze[aria-pressed]         the values stand still (body[data-frozen]); the stream goes on
 *   #sources [data-source="amiga"][data-state] with [data-field="state|as_of|path|error|hint"]
 *   #window button[data-hours][aria-pressed], [data-theme-button], #help-open, #help, #who, #menu, #signout
 *
 * In the URL: see address.js.
 */
import { Charts } from "./charts.js";
import { drawHostCharts } from "./charts-board.js";
import { Header } from "./header.js";
import { LiveClient } from "./client.js";
import { keepPace } from "./pace.js";
import { TaskTable } from "./tasks.js";
import { Activity } from "./activity.js";
import { Door } from "./drawer-door.js";
import { markSections, renderAttention, renderErrors, renderSessions, renderSources, renderTools } from "./panels.js";
import { bindFields } from "./fields.js";
import { bindKeys } from "./keys.js";
import { botSilence, renderTiles } from "./tiles.js";
import { byId, setAttr, setText } from "./dom.js";
import { renderSparks } from "./sparks.js";
import { SignInError, signIn, signInPage, signOut, whoAmI } from "./session.js";
import { Staying } from "./staying.js";
import { offers, windowName } from "./empty.js";
import { Freeze } from "./freeze.js";
import * as address from "./address.js";
import * as clock from "./clock.js";
import * as format from "./format.js";

const WINDOWS = [1, 6, 24, 168];
const WHO_AGAIN_MS = 5_000;
const NEAR_END_S = 30; // of a session: who is refused then may have been a moment late
const asked = Number(address.parameter("hours"));

const client = new LiveClient({ hours: WINDOWS.includes(asked) ? asked : 24, interval: 2, delta: true });
const header = new Header(() => client.state, () => client.start());
keepPace(client, () => {
  staying.perhaps();
  charts.missed();
});
const staying = new Staying((session) => header.who(session));
const fields = bindFields(document);
const activity = new Activity(reveal);
const tasks = new TaskTable(keepInUrl, (id) => drawer.open({ kind: "task", id }));
let stepped = false; // from task to task, in the drawer
const drawer = new Door({
  opened: (id) => tasks.mark(id),
  home: () => {
    // what has opened it has the focus again already, where it is still there
    const row = tasks.current !== null && (stepped || document.activeElement === document.body) ? tasks.button(tasks.current) : null;
    stepped = false;
    return row;
  },
  search: (words) => find(words),
  host: drawHostCharts,
}, toast);
const freeze = new Freeze(() => {
  if (header.snapshot) paint(header.snapshot);
  charts.missed();
});
const charts = new Charts(client.hours, { reveal, frozen: () => freeze.on, shown: renderSparks });

// -- what the server says ------------------------------------------------------------------------

client.addEventListener("snapshot", (event) => {
  const { snapshot } = /** @type {CustomEvent} */ (event).detail;
  clock.notBefore(snapshot.timestamp);
  header.snapshot = snapshot;
  header.alive();
  if (freeze.on) header.render(); // whether all is well is no less true while the values stand still
  else paint(snapshot);
});
client.addEventListener("alive", (event) => {
  const { serverTime } = /** @type {CustomEvent} */ (event).detail;
  if (serverTime !== null) clock.sync(serverTime);
  header.alive();
});
client.addEventListener("state", () => {
  const { phase, code, refused } = client.state;
  if (phase === "signedout") {
    header.who(null);
    // Revoked or signed out: nothing of it may stay on the screen. A page that polls, or was away, is told no more
    // than that its session is not accepted; but one that had time left has been ended.
    if (code === 4503 || (refused && code !== 4003 && staying.leftS > NEAR_END_S)) sessionEnded();
    staying.from(null); // there is nothing left to renew
    drawer.makeWay();
  } else if (phase === "live") { // not with `connected`, which polling never brings
    void showWho();
    drawer.follow(); // that has made way for a sign-in
  }
  charts.follow(phase === "live"); // what happened meanwhile; where the server did not run there is a gap
  header.connection();
});
client.addEventListener("notice", (event) => {
  const { kind, data } = /** @type {CustomEvent} */ (event).detail;
  if (kind === "auth") staying.now();
  else if (kind === "lag") toast(`This device fell behind: values were ${(data.behind_ms / 1000).toFixed(1)} s late, ${data.coalesced} merged.`, 60_000);
  else if (kind === "error") toast(data.ref ? `${data.error} (ref ${data.ref})` : data.error);
});

/** @param {any} snapshot */
function paint(snapshot) {
  fields(snapshot);
  renderTiles(snapshot);
  renderAttention(snapshot, reveal);
  tasks.update(snapshot);
  drawer.update(snapshot);
  renderTools(snapshot, find);
  renderSessions(snapshot, reveal, (id) => drawer.open({ kind: "session", id }));
  renderErrors(snapshot, find);
  activity.update(snapshot);
  renderSources(snapshot);
  charts.update(snapshot);
  markSections(snapshot);
  showWindow(snapshot.hours);
  setAttr(document.body, "data-loaded", "");
  header.render();
}

/** Open what an id names: mostly a task's, but a call may carry a session's. @param {string} id */
function reveal(id) {
  const sessions = header.snapshot?.sessions;
  const isTask = header.snapshot?.tasks.some((task) => task.task_id === id);
  const isSession = !isTask && ([...(sessions?.active ?? []), ...(sessions?.recent ?? [])]
    .some((session) => session.session_id === id && session.task_id !== id) || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id));
  drawer.open({ kind: isSession ? "session" : "task", id });
}

/** Show the tasks that have these words. @param {string} words */
function find(words) {
  tasks.filter({ status: "all", words });
  byId("tasks-title").scrollIntoView({ block: "start" });
  tasks.search.focus({ preventScroll: true });
}

// -- what the person does ------------------------------------------------------------------------

/** @param {number} hours */
function chooseWindow(hours) {
  if (freeze.on) freeze.toggle(); // other values are wanted
  void client.setHours(hours);
  charts.setHours(hours);
  showWindow(hours);
  keepInUrl();
}

/** @param {number} hours */
function showWindow(hours) {
  for (const button of document.querySelectorAll("#window button")) {
    setAttr(button, "aria-pressed", String(Number(/** @type {HTMLElement} */ (button).dataset.hours) === hours));
  }
  const label = windowName(hours).replace("\u00a0", " ");
  for (const element of document.querySelectorAll("[data-window-label]")) setText(element, label);
}

/** The view is a link. */
function keepInUrl() {
  const { status, words, sort } = tasks.view;
  address.put({ hours: String(client.hours), status, q: words, sort }, { hours: "24", status: "all" });
}

for (const button of document.querySelectorAll("#window button")) {
  button.addEventListener("click", () => chooseWindow(Number(/** @type {HTMLElement} */ (button).dataset.hours)));
}

/** To the next or previous task, in the drawer if that is open. @param {number} by */
function step(by) {
  const id = tasks.move(by);
  if (!drawer.isOpen || id === null) return;
  stepped = true;
  drawer.open({ kind: "task", id });
}

bindKeys({
  "/": () => { if (!drawer.isOpen) tasks.search.focus(); },
  " ": () => (drawer.isOpen ? false : freeze.toggle()), // there it scrolls
  j: () => step(1),
  k: () => step(-1),
  Escape: () => {
    if (drawer.isOpen) return false; // the dialog's own business
    if (document.activeElement === tasks.search) {
      if (tasks.search.value) tasks.filter({ words: "" });
      else tasks.search.blur();
      return true;
    }
    if (!freeze.on) return false;
    freeze.toggle();
    return true;
  },
  ...Object.fromEntries(WINDOWS.map((hours, index) => [String(index + 1), () => chooseWindow(hours)])),
});

// -- who am I ------------------------------------------------------------------------------------

let whoTimer = 0;

async function showWho() {
  clearTimeout(whoTimer);
  try {
    const session = await whoAmI();
    header.who(session);
    staying.from(session);
  } catch {
    // no answer says nothing about the session: what was known still holds
    whoTimer = window.setTimeout(() => { if (client.state.phase === "live") void showWho(); }, WHO_AGAIN_MS);
  }
}

/** Leave the values behind; a sign-in leads back to this view. */
function sessionEnded() {
  location.replace(signInPage(true));
}

// Other pages of this browser lose their cookie with this one's, and the server cannot tell one without from a stranger.
const pages = new BroadcastChannel("amiga.pages");
pages.addEventListener("message", ({ data }) => { if (data === "signed out") sessionEnded(); });

/** @param {boolean} everywhere */
async function leave(everywhere) {
  try {
    await signOut(everywhere);
    pages.postMessage("signed out");
    client.stop();
    location.replace("/login"); // Back shows nothing of it
  } catch (error) {
    toast(error instanceof Error ? error.message : "Signing out failed.");
  }
}
byId("signout").addEventListener("click", () => void leave(false));
byId("signout-everywhere").addEventListener("click", () => void leave(true));

byId("signin-panel-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void signInAgain();
});

/** Sign in without leaving: the same view goes on. */
async function signInAgain() {
  const token = /** @type {HTMLInputElement} */ (byId("signin-panel-token"));
  const message = byId("signin-panel-message");
  setText(message, "Signing in …");
  try {
    await signIn(token.value);
    token.value = "";
    setText(message, "");
    client.start();
  } catch (error) {
    setText(message, error instanceof SignInError ? error.message : "Something went wrong in this page. Reload it and try again.");
    token.focus();
  }
}

// -- time ----------------------------------------------------------------------------------------

let toastTimer = 0;
byId("toast").addEventListener("click", () => byId("toast").hidePopover());

/** @param {string} text @param {number} [forMs] */
function toast(text, forMs = 8_000) {
  const element = byId("toast");
  element.hidePopover();
  element.showPopover(); // above a drawer that was opened since
  setText(element, text);
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => element.hidePopover(), forMs);
}

setInterval(() => {
  header.render();
  drawer.warn(header.warning);
}, 200);
setInterval(() => {
  freeze.tick();
  if (freeze.on) return;
  clock.tick();
  drawer.tick();
  if (client.state.phase === "live" && !header.stale) charts.tick();
  if (header.snapshot) {
    botSilence(header.snapshot);
    markSections(header.snapshot);
  }
}, 1_000);

window.addEventListener("offline", () => header.render());
// signed in again in another tab: nothing to paste here
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && client.state.phase === "signedout") void comeBack();
});

async function comeBack() {
  const session = await whoAmI().catch(() => null);
  if (session && client.state.phase === "signedout") client.start();
}

offers.choose = chooseWindow;
for (const element of document.querySelectorAll("[data-zone]")) setText(element, format.zone());
tasks.filter({ status: address.parameter("status") ?? "all", words: address.parameter("q") ?? "", sort: address.parameter("sort") ?? "" });
drawer.follow();
showWindow(client.hours);
client.start();
