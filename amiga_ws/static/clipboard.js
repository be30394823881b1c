/**
 * Copying a text, also over plain http on a LAN, where there is no clipboard API.
 */
import { h } from "./dom.js";

/** @param {string} text @returns {Promise<boolean>} whether it was allowed */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return fallback(text);
  }
}

/** @param {string} text */
function fallback(text) {
  const focused = /** @type {HTMLElement|null} */ (document.activeElement);
  const area = h("textarea", { class: "hidden-text", "aria-hidden": "true" });
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area); // behind a dialog nothing can be selected
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus({ preventScroll: true });
  return done;
}
