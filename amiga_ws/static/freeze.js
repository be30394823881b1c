/**
 * Freeze: the values stand still while somebody looks at them. The stream goes on, so that the return is at once.
 */
import { byId, setAttr, setText, show } from "./dom.js";
import { instant, past } from "./elapsed.js";
import * as format from "./format.js";

export class Freeze {
  /** @param {() => void} thaw show what has come meanwhile */
  constructor(thaw) {
    this.thaw = thaw;
    /** Null: live. @type {import('./elapsed.js').Instant|null} */
    this.since = null;
    byId("freeze").addEventListener("click", () => this.toggle());
  }

  get on() {
    return this.since !== null;
  }

  toggle() {
    this.since = this.on ? null : instant();
    setAttr(document.body, "data-frozen", this.on ? "" : null);
    setAttr(byId("freeze"), "aria-pressed", String(this.on));
    show(byId("freeze-lag"), this.on);
    this.tick();
    if (!this.on) this.thaw();
  }

  /** Called once a second. */
  tick() {
    if (this.since) setText(byId("freeze-lag"), `LIVE +${format.age(past(this.since))}`);
  }
}
