/**
 * The sign-in page. Ids others may rely on: #token, #signin (the button), #message (role=status, `data-kind` busy,
 * error or ok).
 */
import { byId, setText } from "./dom.js";
import { SignInError, signIn, whoAmI } from "./session.js";

const form = /** @type {HTMLFormElement} */ (byId("signin-form"));
const field = /** @type {HTMLInputElement} */ (byId("token"));
const button = /** @type {HTMLButtonElement} */ (byId("signin"));
const message = byId("message");

/** Where to go afterwards: a path of this site, else the dashboard. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  try {
    const url = new URL(wanted, location.origin);
    // "//evil", "/\evil" and "https://evil" all parse to another origin; "/login" would be a loop
    if (url.origin === location.origin && url.pathname !== "/login") return url.pathname + url.search + url.hash;
  } catch {
    // not a URL at all
  }
  return "/";
}

/** @param {string} kind @param {string} text */
function tell(kind, text) {
  message.dataset.kind = kind;
  setText(message, text);
  message.hidden = text === "";
}

/** @param {string} token */
async function enter(token) {
  button.disabled = true;
  tell("busy", "Signing in …");
  try {
    const session = await signIn(token);
    field.value = "";
    tell("ok", `Signed in as ${session.subject}. Opening the dashboard …`);
    location.replace(next());
  } catch (error) {
    tell("error", error instanceof SignInError ? error.message : "Something went wrong in this page. Reload it and try again.");
    button.disabled = false;
    field.focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void enter(field.value);
});
byId("token-show").addEventListener("click", (event) => {
  const shown = field.type === "text";
  field.type = shown ? "password" : "text";
  const toggle = /** @type {HTMLElement} */ (event.currentTarget);
  toggle.setAttribute("aria-pressed", String(!shown));
  setText(toggle, shown ? "Show" : "Hide");
});

/** A sign-in link's token leaves the address bar and the history before anything else happens to it. */
function fromLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("login");
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return given;
}

async function begin() {
  const given = fromLink();
  if (given) {
    await enter(given);
    return;
  }
  field.focus();
  const ended = new URLSearchParams(location.search).has("ended");
  if (ended) tell("ended", "This session has ended: it was signed out or taken back, here or elsewhere.");
  const session = await whoAmI().catch(() => null);
  if (session && ended) {
    location.replace(next()); // there is another one by now
  } else if (session) {
    const already = byId("already");
    setText(byId("already-subject"), session.subject);
    byId("already-link").setAttribute("href", next());
    already.hidden = false;
  }
}

// a second link opened in the same tab only changes the fragment
window.addEventListener("hashchange", () => {
  const given = fromLink();
  if (given) void enter(given);
});
void begin();
