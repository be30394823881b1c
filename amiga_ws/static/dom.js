/**
 * Small tools to build and change the page. Text goes in by `textContent` alone: whatever AMIGA or a peer wrote
 * stays text.
 */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} [attributes] `class`, `data-…`, `aria-…`, plain attributes; `on` = {event: listener}
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, /** @type {any} */ (listener));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of the page's sprite; decoration only, the word stands beside it. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** @param {Element} holder with an icon in it @param {string} name */
export function setIcon(holder, name) {
  const use = holder.querySelector("use");
  if (use && use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
}

/** Change text only where it differs: an unchanged page costs no layout and no screen reader a word. @param {Element} element @param {string} value */
export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** @param {Element} element @param {string} name @param {string|null} value null removes it */
export function setAttr(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** @param {HTMLElement} element @param {boolean} shown */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** Until it is in the window, or nearly. @param {Element} element @param {number} px @returns {Promise<void>} */
export function comesNear(element, px) {
  return new Promise((resolve) => {
    const watching = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watching.disconnect();
      resolve();
    }, { rootMargin: `${px}px` });
    watching.observe(element);
  });
}

/**
 * Make `parent`'s children stand for `items`, in order, reusing the elements of the last time by key, so that focus,
 * selection and an open row survive an update: what is moved loses them, so as few as possible are.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T, index: number) => string} key
 * @param {(item: T) => HTMLElement} create
 * @param {(element: HTMLElement, item: T) => void} update
 */
export function reconcile(parent, items, key, create, update) {
  const names = items.map(key);
  const wanted = new Set(names);
  /** @type {Map<string, HTMLElement>} */
  const old = new Map();
  for (const child of /** @type {HTMLElement[]} */ ([...parent.children])) {
    const name = child.dataset.key;
    if (name !== undefined && wanted.has(name) && !old.has(name)) old.set(name, child);
    else child.remove();
  }
  const places = new Map([...old.values()].map((element, at) => [element, at]));
  const known = names.map((name) => {
    const element = old.get(name);
    old.delete(name);
    return element;
  });
  const still = longestRun(known.map((element) => (element ? /** @type {number} */ (places.get(element)) : -1)));
  const focused = parent.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : null;
  let place = parent.firstElementChild;
  items.forEach((item, index) => {
    const element = known[index] ?? create(item);
    element.dataset.key = names[index];
    update(element, item);
    if (still.has(index)) place = element.nextElementSibling;
    else parent.insertBefore(element, place);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** Which of these stand in order as they are: the longest series that only grows. @param {number[]} places -1: none @returns {Set<number>} indices */
function longestRun(places) {
  /** @type {number[]} */
  const ends = []; // of the runs of 1, 2, 3 … the one that ends lowest
  /** @type {(number|undefined)[]} */
  const before = [];
  places.forEach((place, index) => {
    if (place < 0) return;
    const length = ends.findLastIndex((end) => places[end] < place) + 1;
    before[index] = ends[length - 1];
    ends[length] = index;
  });
  const run = new Set();
  for (let index = ends.at(-1); index !== undefined; index = before[index]) run.add(index);
  return run;
}

/** Keys of rows by what they are, numbered where several are the same. @template T @param {(item: T) => string} name @returns {(item: T) => string} */
export function numbered(name) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  return (item) => {
    const own = name(item);
    const count = (counts.get(own) ?? 0) + 1;
    counts.set(own, count);
    return `${own} ${count}`;
  };
}

/** The named part of a row. @param {Element} row @param {string} name @returns {HTMLElement} */
export function part(row, name) {
  return /** @type {HTMLElement} */ (row.querySelector(`[data-field="${name}"]`));
}
