/**
 * Numbers of the snapshot that the page's markup names itself: `<span data-field="overview.tasks.total"
 * data-format="int">`. The path is the value's path in the snapshot, so a number on the page can be traced to the wire.
 * `data-value` carries the exact value (absent: unknown).
 */
import * as format from "./format.js";
import { setAttr, setText } from "./dom.js";
import { since } from "./clock.js";

/** @typedef {(element: HTMLElement, value: any, snapshot: any) => void} Writer */

/** @param {(value: any, snapshot: any) => string} words @returns {Writer} */
const text = (words) => (element, value, snapshot) => setText(element, words(value, snapshot));

/** @type {Record<string, Writer>} */
const WRITERS = {
  text: text((value) => (value === null || value === undefined || value === "" ? format.UNKNOWN : String(value))),
  int: text(format.int),
  compact: (element, value) => {
    setText(element, format.compact(value));
    if (format.known(value) && value >= 10_000) element.title = format.int(value);
  },
  percent: text((value) => format.percent(value)),
  percent1: text((value) => format.percent(value, 1)),
  bytes: text(format.bytes),
  rate: text(format.rate),
  load: text((value) => format.fixed(value, 2)),
  money: text((value, snapshot) => format.money(value, snapshot.overview?.costs?.currency)),
  age: (element, value) => since(element, value, "age"),
  ago: (element, value) => since(element, value, "fresh"),
  duration: (element, value) => since(element, value, "duration"),
  // a process that has ended keeps the time it began
  uptime: (element, value, snapshot) => since(element, snapshot.overview?.system.processes.amiga?.alive ? value : null, "duration"),
  moment: (element, value) => {
    setText(element, format.moment(value, Date.now() / 1000));
    setAttr(element, "title", format.known(value) ? format.stamp(value) : null);
  },
  // a bar: its length goes through the CSSOM, which a strict style-src allows
  meter: (element, value) => meter(element, value),
};

/** @param {HTMLElement} element @param {unknown} value 0-100 */
export function meter(element, value) {
  const known = format.known(value);
  element.style.setProperty("--value", known ? String(Math.min(100, Math.max(0, value))) : "0");
  setAttr(element, "data-level", !known ? "none" : value >= 95 ? "crit" : value >= 85 ? "warn" : "ok");
}

/** @param {any} document @param {string[]} path */
function at(document, path) {
  let node = document;
  for (const name of path) {
    if (node === null || node === undefined) return undefined;
    node = Object.hasOwn(Object(node), name) ? node[name] : undefined;
  }
  return node;
}

/** @param {ParentNode} root @returns {(snapshot: any) => void} writes every bound value; `null` blanks them */
export function bindFields(root) {
  const bound = [...root.querySelectorAll("[data-field][data-format]")].map((found) => {
    const element = /** @type {HTMLElement} */ (found);
    const name = element.dataset.format ?? "text";
    const writer = WRITERS[name];
    if (!writer) throw new Error(`unknown data-format ${name}`);
    return { element, writer, path: (element.dataset.field ?? "").split(".") };
  });
  return (snapshot) => {
    for (const { element, writer, path } of bound) {
      const value = at(snapshot, path) ?? null;
      writer(element, value, snapshot ?? {});
      setAttr(element, "data-value", value === null || typeof value === "object" ? null : String(value));
    }
  };
}
