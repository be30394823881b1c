/**
 * Text chunks to events: the WHATWG event stream format, without `id`: frames carry their position themselves.
 */

const encoder = new TextEncoder();

/** In UTF-8. @param {string} text */
export function byteLength(text) {
  return encoder.encode(text).length;
}

export class EventStreamParser {
  /** @param {(event: string, data: string, bytes: number) => void} onevent */
  constructor(onevent) {
    this.onevent = onevent;
    /** @type {(ms: number) => void} */
    this.onretry = () => {};
    this.held = "";
    this.rest = "";
    this.event = "";
    /** @type {string[]} */
    this.data = [];
    this.bytes = 0;
  }

  /** Characters of events that are not over yet. */
  get pending() {
    return this.rest.length + this.bytes;
  }

  /** @param {string} chunk */
  feed(chunk) {
    const text = this.held + chunk;
    // a CR at the very end may be the first half of CRLF: it waits for the next chunk
    this.held = text.endsWith("\r") ? "\r" : "";
    const lines = text.slice(0, text.length - this.held.length).split(/\r\n|\n|\r/);
    lines[0] = this.rest + lines[0];
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    this.bytes += byteLength(line) + 1;
    if (line === "") {
      if (this.data.length) this.onevent(this.event, this.data.join("\n"), this.bytes);
      this.event = "";
      this.data = [];
      this.bytes = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    else if (field === "retry" && /^\d+$/.test(value)) this.onretry(Number(value));
  }
}
