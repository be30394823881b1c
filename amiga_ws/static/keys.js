/**
 * Single keys of the dashboard. They rest while somebody types or a dialog is open, and can be switched off
 * (WCAG 2.1.4), which this browser remembers.
 */
import { byId } from "./dom.js";

const KEY = "amiga.keys";

/** @param {Record<string, () => boolean|void>} actions by `event.key`; `false` leaves the key to the browser */
export function bindKeys(actions) {
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  const single = /** @type {HTMLInputElement} */ (byId("keys-on"));
  single.checked = read() !== "off";
  single.addEventListener("change", () => write(single.checked ? "on" : "off"));
  byId("help-open").addEventListener("click", () => help.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || help.open) return;
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches?.("input, textarea, select, [contenteditable]");
    if (event.key !== "Escape" && (typing || !single.checked)) return;
    // on a button or in a list that scrolls, space has a meaning of its own
    if (event.key === " " && target.closest?.("button, a, summary, [tabindex='0']")) return;
    if (event.key === "?") {
      help.showModal();
      event.preventDefault();
      return;
    }
    const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
    if (action && action() !== false) event.preventDefault();
  });
}

function read() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** @param {string} value */
function write(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // then it lasts as long as the page
  }
}
