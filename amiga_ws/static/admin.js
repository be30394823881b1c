/**
 * The administration page: who is connected, what was refused, and taking access back. It asks the admin API now and
 * then (docs/protocol.md); whatever a peer could have written is put in as text.
 *
 * Contract with admin.html: #connections, #revocations and #refusals are filled with rows whose parts are
 * [data-field]; an action's button asks once more before it acts.
 */
import { byId, h, part, reconcile, setAttr, setText, show } from "./dom.js";
import { refusal } from "./transports.js";
import { signInPage, whoAmI } from "./session.js";
import { Staying } from "./staying.js";
import * as format from "./format.js";

const EVERY_MS = 2_000;
const WITHIN_MS = 10_000; // a server that takes the request and is silent is away
const ARMED_MS = 4_000; // how long a first press is remembered

/** @typedef {{client_id: string, subject: string, transport: string, address: string, since: number, hours: number|null,
 *   update_interval: number|null, behind_ms: number, coalesced: number, expires_in: number, parked: boolean}} Connection */
/** @typedef {{kind: string, value: string, issued_before: number, until: number}} Revocation */
/** @typedef {{ref: string, timestamp: number, status: number, method: string, path: string, address: string, reason: string}} Refusal */

/** @type {Refusal[]} */
let refusals = [];
let problem = ""; // of the last action; it stays until the next one
const now = () => Date.now() / 1000;

/** @param {string} method @param {string} path @param {object} [body] */
async function ask(method, path, body) {
  const response = await fetch(path, {
    method, cache: "no-store", headers: { Accept: "application/json" }, body: body && JSON.stringify(body), signal: AbortSignal.timeout(WITHIN_MS),
  });
  if (response.status === 401) location.assign(signInPage());
  if (!response.ok) throw new Error(await refusal(response));
  return response.status === 204 ? null : response.json();
}

// -- who is connected ----------------------------------------------------------------------------

/** @param {Connection} connection */
function connectionRow(connection) {
  const path = `/api/admin/connections/${connection.client_id}`;
  const fields = ["subject", "transport", "address", "since", "window", "lag", "expires"];
  return h(
    "tr",
    {},
    ...fields.map((name) => h("td", { "data-field": name, class: name === "subject" ? null : "num" })),
    h(
      "td",
      { class: "actions" },
      asking("Disconnect", "disconnect", () => ask("DELETE", path)),
      asking("Revoke", "revoke", () => ask("DELETE", `${path}?revoke=1`)),
    ),
  );
}

/** @param {HTMLElement} row @param {Connection} connection */
function showConnection(row, connection) {
  const { hours, update_interval: interval } = connection;
  setText(part(row, "subject"), connection.subject);
  setText(part(row, "transport"), connection.transport === "sse" ? "SSE" : "WebSocket");
  setText(part(row, "address"), connection.address);
  setText(part(row, "since"), format.moment(connection.since, now()));
  part(row, "since").title = format.stamp(connection.since);
  setText(part(row, "window"), hours === null ? format.UNKNOWN : `${hours} h / ${interval} s`);
  setText(part(row, "lag"), connection.behind_ms ? `${format.milliseconds(connection.behind_ms)}, ${connection.coalesced} merged` : format.UNKNOWN);
  setText(part(row, "expires"), connection.parked ? "waits for a new token" : `in ${format.duration(connection.expires_in)}`);
  setAttr(row, "data-lagging", connection.behind_ms ? "" : null);
  setAttr(row, "data-parked", connection.parked ? "" : null);
}

/**
 * A button that acts at its second press, and reads "Really?" in between.
 * @param {string} label @param {string} name @param {() => Promise<unknown>} act
 */
function asking(label, name, act) {
  let timer = 0;
  const disarm = () => {
    clearTimeout(timer);
    setAttr(button, "data-armed", null);
    setText(button, label);
  };
  const press = async () => {
    if (!button.hasAttribute("data-armed")) {
      setAttr(button, "data-armed", "");
      setText(button, `${label}: really?`);
      timer = setTimeout(disarm, ARMED_MS);
      return;
    }
    disarm();
    problem = "";
    await act().catch((error) => { problem = words(error); });
    await look();
  };
  const button = h("button", { type: "button", "data-action": name, on: { click: () => void press() } }, label);
  return button;
}

// -- taking access back --------------------------------------------------------------------------

const KINDS = { jti: "token", sid: "session", sub: "subject" };

/** @param {Revocation} rule */
function revocationItem(rule) {
  const kind = KINDS[/** @type {keyof typeof KINDS} */ (rule.kind)] ?? rule.kind;
  return h("li", {}, `${kind} `, h("span", { class: "id" }, rule.value), h("small", { "data-field": "until" }));
}

/** @param {HTMLElement} item @param {Revocation} rule */
function showRevocation(item, rule) {
  const issued = rule.kind === "sub" ? `, issued before ${format.stamp(rule.issued_before)}` : "";
  setText(part(item, "until"), `${issued}, until ${format.stamp(rule.until)}`);
}

byId("revoke-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void revoke();
});

async function revoke() {
  const kind = /** @type {HTMLSelectElement} */ (byId("revoke-kind"));
  const value = /** @type {HTMLInputElement} */ (byId("revoke-value"));
  const message = byId("revoke-message");
  const given = value.value.trim();
  let problem = given ? "" : "Say which.";
  try {
    if (!problem) await ask("POST", "/api/admin/revocations", { [kind.value]: given });
  } catch (error) {
    problem = words(/** @type {Error} */ (error));
  }
  setAttr(message, "data-bad", problem ? "" : null);
  setText(message, problem || "Revoked.");
  if (!problem) value.value = "";
  await look();
}

byId("revoke-kind").addEventListener("change", () => {
  const token = /** @type {HTMLSelectElement} */ (byId("revoke-kind")).value === "token";
  /** @type {HTMLInputElement} */ (byId("revoke-value")).type = token ? "password" : "text";
});

// -- refusals ------------------------------------------------------------------------------------

/** Why, in words for a person: what stands in the log is short, or a name out of a library. @type {Record<string, string>} */
const REASONS = {
  "none presented": "no token and no session",
  scope: "its token lacks the scope",
  expired: "its token has expired",
  revoked: "its token was taken back",
  "not a session": "a token where only a session will do",
  "session at its end": "its session has reached its end",
  InvalidSignatureError: "signed with another key, or changed since",
  DecodeError: "this is no token",
  "its header is no JSON object": "this is no token",
  InvalidAlgorithmError: "signed in a way that is not taken",
  MissingRequiredClaimError: "its token lacks a part",
  InvalidAudienceError: "its token is for another service",
  InvalidIssuerError: "its token was made by another service",
  "unknown kid": "signed with a key that is not known here",
  "its key is no longer valid": "the key that signed it has ended",
  "token in the query": "a token in the address",
  "ambiguous credential": "more than one token",
  "failed sign-ins": "too many failed sign-ins",
  "sign-ins": "too many sign-ins",
  "limits.requests_per_second": "too many requests",
  "limits.new_connections_per_second": "too many new connections",
  "limits.connections_per_address": "too many connections of one address",
  "limits.connections": "as many connections as there may be",
  "limits.misuses_per_minute": "too much misuse by one token",
  "no upgrade": "no WebSocket handshake",
  "no connection upgrade": "no WebSocket handshake",
  "bad WebSocket key": "a broken WebSocket handshake",
  framing: "a broken request",
};

/** @param {string} reason */
const reasonWords = (reason) => (Object.hasOwn(REASONS, reason) ? REASONS[reason] : reason);

/** @param {Refusal} each */
function refusalRow(each) {
  const cells = {
    time: format.moment(each.timestamp, now()),
    ref: each.ref,
    status: String(each.status),
    request: `${each.method} ${each.path}`,
    address: each.address,
    reason: reasonWords(each.reason),
  };
  const row = h("tr", {}, ...Object.entries(cells).map(([name, text]) => h("td", { "data-field": name, class: name === "ref" ? "id" : null }, text)));
  part(row, "time").title = format.stamp(each.timestamp);
  part(row, "reason").title = each.reason; // as the log has it
  return row;
}

function showRefusals() {
  const wanted = /** @type {HTMLInputElement} */ (byId("refusals-filter")).value.trim().toLowerCase();
  const found = refusals.filter((each) => [each.ref, each.address, each.reason, reasonWords(each.reason), each.path, each.status].join(" ").toLowerCase().includes(wanted));
  reconcile(byId("refusals"), found, (each) => each.ref, refusalRow, () => {});
  show(byId("refusals-empty"), found.length === 0);
}

byId("refusals-filter").addEventListener("input", showRefusals);

// -- looking -------------------------------------------------------------------------------------

async function look() {
  try {
    const [seen, rules, book] = await Promise.all(["connections", "revocations", "refusals"].map((name) => ask("GET", `/api/admin/${name}`)));
    /** @type {Connection[]} */
    const connections = seen.connections;
    connections.sort((one, other) => one.subject.localeCompare(other.subject) || one.since - other.since);
    reconcile(byId("connections"), connections, (each) => each.client_id, connectionRow, showConnection);
    setText(byId("connections-count"), String(connections.length));
    show(byId("connections-empty"), connections.length === 0);
    /** @type {Revocation[]} */
    const revocations = rules.revocations;
    reconcile(byId("revocations"), revocations, (each) => `${each.kind} ${each.value}`, revocationItem, showRevocation);
    setText(byId("revocations-count"), String(revocations.length));
    show(byId("revocations-empty"), revocations.length === 0);
    refusals = book.refusals;
    showRefusals();
    setText(byId("status"), problem);
    setAttr(document.body, "data-loaded", "");
  } catch (error) {
    setText(byId("status"), words(/** @type {Error} */ (error)));
  }
}

/** @param {Error} error */
function words(error) {
  return error instanceof TypeError || error.name === "TimeoutError" ? "The server does not answer." : error.message;
}

async function keepLooking() {
  if (!document.hidden) await look();
  setTimeout(() => void keepLooking(), EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void look();
});
const staying = new Staying(() => {});
staying.from(await whoAmI().catch(() => null));
void keepLooking();
