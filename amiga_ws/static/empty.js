/**
 * What an empty list says: nothing there, nobody knows, or there is something in a wider window.
 */
import { h, setText, show } from "./dom.js";
import * as format from "./format.js";
import { now } from "./clock.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */

const WINDOWS = [1, 6, 24, 168];

/** @param {number} hours */
export function windowName(hours) {
  return hours % 24 === 0 && hours > 24 ? `${hours / 24}\u00a0d` : `${hours}\u00a0h`;
}

/** Set by the page: what a click on "Show 24 h" does. @type {{choose: (hours: number) => void}} */
export const offers = { choose: () => {} };

/**
 * @param {HTMLElement} element @param {boolean} empty @param {Snapshot|null} snapshot @param {string} text
 * @param {number|null} [last] when there was something last, as far as the page knows: offers the nearest window with it
 */
export function emptyNote(element, empty, snapshot, text, last = null) {
  show(element, empty && snapshot !== null);
  if (element.hidden || !snapshot) return;
  const state = snapshot.sources.amiga?.state;
  const known = state === "ok" || state === undefined;
  const age = last === null ? null : now() - last;
  const wider = known && age !== null ? WINDOWS.find((hours) => hours > snapshot.hours && hours * 3600 > age) : undefined;
  const said = state === "loading" ? "AMIGA’s database is being read …" : !known ? "Unknown while AMIGA’s database is not being read."
    : age !== null && age > snapshot.hours * 3600 ? `${text} The last was ${format.age(age)} ago.` : text;
  let words = element.querySelector("span");
  if (!words) element.replaceChildren(words = h("span"));
  setText(words, said);
  let button = element.querySelector("button");
  if (!button) element.append(button = h("button", { type: "button", on: { click: () => offers.choose(Number(button?.dataset.hours)) } }));
  show(button, wider !== undefined);
  if (wider !== undefined) {
    button.dataset.hours = String(wider);
    setText(button, `Show ${windowName(wider)}`);
  }
}
