/**
 * Freeze: the values stand still while somebody looks at them. The stream goes on, so that the return is at once.
 */
import { byId, setAttr, setText, show } from "./dom.js";
import * as format from "./format.js";

export class Freeze {
  /** @param {() => void} thaw show what has come meanwhile */
  constructor(thaw) {
    this.thaw = thaw;
    this.since = 0; // performance.now(); 0: live
    byId("freeze").addEventListener("click", () => this.toggle());
  }

  get on() {
    return this.since > 0;
  }

  toggle() {
    this.since = this.on ? 0 : performance.now();
    setAttr(document.body, "data-frozen", this.on ? "" : null);
    setAttr(byId("freeze"), "aria-pressed", String(this.on));
    show(byId("freeze-lag"), this.on);
    this.tick();
    if (!this.on) this.thaw();
  }

  /** Called once a second. */
  tick() {
    if (this.on) setText(byId("freeze-lag"), `LIVE +${format.age((performance.now() - this.since) / 1000)}`);
  }
}
