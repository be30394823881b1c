/**
 * The view is a link: window, filter, order and what is open stand in the address, and Back closes the drawer.
 *
 *   ?hours=6 &status=failed &q=words &sort=-cost &task=ab12cd | &session=f532a6cd-…
 */

/** @typedef {{kind: 'task'|'session', id: string}} Opened */

const MAX_ID = 200;

/** @param {string} name */
export function parameter(name) {
  return new URLSearchParams(location.search).get(name);
}

/** Write parameters without a step in the history; an empty or usual value leaves the address. @param {Record<string, string>} values @param {Record<string, string>} [usual] */
export function put(values, usual = {}) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value === (usual[name] ?? "")) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  if (url.href !== location.href) history.replaceState(history.state, "", url);
}

/** What the address says is open. @returns {Opened|null} */
export function opened() {
  for (const kind of /** @type {const} */ (["task", "session"])) {
    const id = parameter(kind);
    if (id && id.length <= MAX_ID) return { kind, id };
  }
  return null;
}

/** A step back has been asked for and has not been taken yet. */
let leaving = false;
/** What was opened meanwhile. @type {Opened|null} */
let waiting = null;

/** Note what is open now. The first opening is a step of its own, so that Back closes. @param {Opened} what */
export function open(what) {
  if (leaving) {
    waiting = what;
    return;
  }
  const url = new URL(location.href);
  url.searchParams.delete("task");
  url.searchParams.delete("session");
  url.searchParams.set(what.kind, what.id);
  if (url.href === location.href) return;
  if (opened()) history.replaceState(history.state, "", url);
  else history.pushState({ drawer: true }, "", url);
}

/** Nothing is open any more. @param {{back: boolean}} how `back`: take back the step that opening was */
export function close({ back }) {
  waiting = null;
  if (leaving || !opened()) return;
  if (back && history.state?.drawer) {
    leaving = true;
    history.back();
  } else put({ task: "", session: "" });
}

/** @param {() => void} moved somebody went back or forward */
export function listen(moved) {
  addEventListener("popstate", () => {
    if (!leaving) {
      moved();
      return;
    }
    leaving = false;
    const next = waiting;
    waiting = null;
    if (next) open(next);
  });
}
