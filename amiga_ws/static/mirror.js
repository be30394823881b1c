/**
 * The server's snapshot as this page has it: replaced by full states, moved on by patches. What does not make sense is
 * a `MirrorError`, and the snapshot stays as it was: a view never sees half a document.
 */
import { applyPatch } from "./patch.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */

const OPERATIONS_MAX = 10_000; // the server sends a full state where that is smaller, long before

export class MirrorError extends Error {}

export class Mirror {
  /** @type {Snapshot|null} */
  snapshot = null;

  /** The position to resume a window from, if its state is here. @param {number} hours @returns {string|null} */
  position(hours) {
    return this.snapshot?.hours === hours ? this.snapshot.position : null;
  }

  /** A state of another window may come by request: it is handed on and not kept. @param {any} data @param {number} hours @returns {Snapshot} */
  full(data, hours) {
    const snapshot = sound(data);
    if (snapshot.hours === hours) this.snapshot = snapshot;
    return snapshot;
  }

  /** @param {any} data of `metrics_patch` @returns {Snapshot} */
  patch(data) {
    if (!this.snapshot || this.snapshot.position !== data?.from) throw new MirrorError("a patch of a state that is not here");
    const { patch, timestamp, position } = data;
    if (!Array.isArray(patch) || patch.length > OPERATIONS_MAX) throw new MirrorError("not a patch");
    let document;
    try {
      document = applyPatch(this.snapshot, patch);
    } catch (error) {
      throw new MirrorError(String(error)); // whatever it was: it does not fit
    }
    this.snapshot = sound({ ...document, timestamp, position });
    return this.snapshot;
  }

  clear() {
    this.snapshot = null;
  }
}

const LISTS = ["tasks", "activity", "errors", "attention"];
const OBJECTS = ["overview", "sessions", "sources"];

/** What every view relies on; the rest it looks at with care. @param {any} data @returns {Snapshot} */
function sound(data) {
  const whole = isObject(data) && Number.isFinite(data.hours) && Number.isFinite(data.timestamp) &&
    typeof data.position === "string" && LISTS.every((name) => Array.isArray(data[name])) &&
    OBJECTS.every((name) => isObject(data[name]));
  if (!whole) throw new MirrorError("not a snapshot");
  return data;
}

/** @param {unknown} value */
function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
