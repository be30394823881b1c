/**
 * The way to the drawer: its modules are fetched a while after the first numbers stand, or when something is opened, so
 * that the first look at the page does not wait for them. To the page it is the drawer.
 */
import * as address from "./address.js";

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./address.js').Opened} Opened */

const QUIET_MS = 3_000; // after the first numbers: charts are drawn by then

export class Door {
  /** @param {import('./drawer.js').Around} around @param {(text: string) => void} failed told when they cannot be fetched */
  constructor(around, failed) {
    this.around = around;
    this.failed = failed;
    /** @type {import('./drawer.js').Drawer|null} */
    this.drawer = null;
    /** @type {Snapshot|null} */
    this.snapshot = null;
    /** The modules, on their way or here. @type {Promise<typeof import('./drawer.js')>|null} */
    this.modules = null;
    address.listen(() => this.follow());
  }

  /** Also while it is on its way: keys that come meanwhile are meant for it. */
  get isOpen() {
    return this.drawer ? this.drawer.isOpen : this.modules !== null && address.opened() !== null;
  }

  /** @param {Opened} what */
  open(what) {
    if (this.drawer) this.drawer.open(what);
    else {
      address.open(what);
      this.follow();
    }
  }

  /** Show what the address names, or nothing. */
  follow() {
    if (this.drawer) this.drawer.follow();
    else if (address.opened()) void this.#fetch();
  }

  makeWay() {
    this.drawer?.makeWay();
  }

  /** @param {Snapshot} snapshot */
  update(snapshot) {
    if (!this.snapshot) setTimeout(() => void this.#fetch(), QUIET_MS);
    this.snapshot = snapshot;
    this.drawer?.update(snapshot);
  }

  /** @param {string|null} text */
  warn(text) {
    this.drawer?.warn(text);
  }

  tick() {
    this.drawer?.tick();
  }

  async #fetch() {
    try {
      this.modules ??= import("./drawer.js");
      const { Drawer } = await this.modules;
      if (this.drawer) return; // somebody else waited for them too
      this.drawer = new Drawer(this.around);
      if (this.snapshot) this.drawer.update(this.snapshot);
      this.drawer.follow(); // what the address names by now
    } catch {
      this.modules = null;
      if (address.opened()) this.failed("This cannot be shown: the server does not answer. Reload the page when it does.");
    }
  }
}
