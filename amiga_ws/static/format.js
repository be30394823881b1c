/**
 * Values to words. Pure; no DOM, no clock. Everything unknown (`null`, `undefined`, not a number) is "–".
 */

export const UNKNOWN = "–";

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const LEAST_MONEY = 0.0001; // is written
const SPACE = "\u00a0"; // a value and its unit never part at a line end

/** @param {unknown} value @returns {value is number} */
export function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** 12345 → "12,345" @param {unknown} value */
export function int(value) {
  return known(value) ? grouped.format(value) : UNKNOWN;
}

/** 1234567 → "1.23 M"; below ten thousand the whole number. @param {unknown} value */
export function compact(value) {
  if (!known(value)) return UNKNOWN;
  if (Math.abs(value) < 10_000) return grouped.format(value);
  return scaled(value, 1000, ["", "k", "M", "B", "T"]);
}

/** 1536 → "1.5 KiB" @param {unknown} value */
export function bytes(value) {
  return known(value) ? scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) : UNKNOWN;
}

/** 1536 → "1.5 KiB/s" @param {unknown} value */
export function rate(value) {
  return known(value) ? `${bytes(value)}/s` : UNKNOWN;
}

/** @param {number} value @param {number} base @param {string[]} units */
function scaled(value, base, units) {
  let step = 0;
  let rest = value;
  // 999.5 would print as "1000": go one unit up a little early
  while (Math.abs(rest) >= base * 0.9995 && step < units.length - 1) {
    rest /= base;
    step += 1;
  }
  const digits = step === 0 || Math.abs(rest) >= 100 ? 0 : Math.abs(rest) >= 10 ? 1 : 2;
  return rest.toFixed(digits) + (units[step] ? SPACE + units[step] : "");
}

/** Only all is "100 %", and only nothing is "0 %". @param {unknown} value @param {number} [digits] */
export function percent(value, digits = 0) {
  if (!known(value)) return UNKNOWN;
  const step = 10 ** -digits;
  const told = value > 0 && value < 100 ? Math.min(Math.max(value, step), 100 - step) : value;
  return `${told.toFixed(digits)}${SPACE}%`;
}

/** @param {unknown} value @param {number} [digits] */
export function fixed(value, digits = 2) {
  return known(value) ? value.toFixed(digits) : UNKNOWN;
}

/** Money keeps two significant digits below a cent, none above a thousand; "< $0.0001" is not nothing. @param {unknown} value @param {string} [currency] @returns {string} */
export function money(value, currency = "USD") {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size > 0 && size < LEAST_MONEY) return `<${SPACE}${money(LEAST_MONEY, currency)}`;
  const digits = size >= 1000 ? 0 : size >= 0.1 || size === 0 ? 2 : size >= 0.01 ? 3 : 4;
  const text = size >= 1000 ? grouped.format(value) : value.toFixed(digits);
  return currency === "USD" ? `$${text}` : `${text}${SPACE}${currency}`;
}

/** Milliseconds of a tool call: "84 ms", "1.2 s", "3 m 05 s". @param {unknown} value */
export function milliseconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 1000) return `${Math.round(value)}${SPACE}ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(1)}${SPACE}s`;
  return duration(value / 1000);
}

/**
 * Seconds in at most two units: "0 s", "42 s", "3 m 05 s", "2 h 14 m", "3 d 4 h".
 * @param {unknown} value
 */
export function duration(value) {
  if (!known(value)) return UNKNOWN;
  const all = Math.max(0, Math.floor(value));
  const [days, hours, minutes, seconds] = [
    Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60,
  ];
  if (days) return `${days}${SPACE}d${SPACE}${hours}${SPACE}h`;
  if (hours) return `${hours}${SPACE}h${SPACE}${two(minutes)}${SPACE}m`;
  if (minutes) return `${minutes}${SPACE}m${SPACE}${two(seconds)}${SPACE}s`;
  return `${seconds}${SPACE}s`;
}

/** One unit only, for narrow places: "42 s", "3 m", "2 h", "5 d". @param {unknown} value */
export function age(value) {
  if (!known(value)) return UNKNOWN;
  const all = Math.max(0, Math.floor(value));
  if (all < 60) return `${all}${SPACE}s`;
  if (all < 3600) return `${Math.floor(all / 60)}${SPACE}m`;
  if (all < 172_800) return `${Math.floor(all / 3600)}${SPACE}h`;
  return `${Math.floor(all / 86400)}${SPACE}d`;
}

/** Age of the data in the header, with tenths while it is fresh: "1.2 s", "42 s", "3 m". @param {number} value */
export function freshAge(value) {
  return value < 9.95 ? `${Math.max(0, value).toFixed(1)}${SPACE}s` : age(value);
}

const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
const two = pad;

/** Epoch → "14:02:09" in the viewer's zone. @param {unknown} epoch */
export function clock(epoch) {
  if (!known(epoch)) return UNKNOWN;
  const at = new Date(epoch * 1000);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Epoch → "14:02" today, "23 Nov 14:02" on another day. @param {unknown} epoch @param {number} now epoch */
export function moment(epoch, now) {
  if (!known(epoch)) return UNKNOWN;
  const at = new Date(epoch * 1000);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
  if (at.toDateString() === new Date(now * 1000).toDateString()) return time;
  return `${day(epoch)} ${time}`;
}

/** Epoch → "23 Nov" in the viewer's zone. @param {unknown} epoch */
export function day(epoch) {
  if (!known(epoch)) return UNKNOWN;
  const at = new Date(epoch * 1000);
  return `${at.getDate()}${SPACE}${MONTHS[at.getMonth()]}`;
}

/** The beginning of a day where clocks are `ahead` seconds ahead of UTC, now if not then → "23 Nov" there. @param {number} epoch @param {number} ahead */
export function dayThere(epoch, ahead) {
  const at = new Date((epoch + ahead + 43_200) * 1000); // midday, whether or not their clocks change until then
  return `${at.getUTCDate()}${SPACE}${MONTHS[at.getUTCMonth()]}`;
}

/** Where clocks are not as the viewer's: "UTC+01:00"; else nothing. @param {unknown} ahead seconds ahead of UTC */
export function otherZone(ahead) {
  const minutes = known(ahead) ? Math.round(ahead / 60) : null;
  if (minutes === null || minutes === -new Date().getTimezoneOffset()) return "";
  return minutes ? `UTC${signed(minutes)}` : "UTC";
}

/** Epoch → "2026-11-23 14:02:09 +01:00", for tooltips. @param {unknown} epoch */
export function stamp(epoch) {
  if (!known(epoch)) return UNKNOWN;
  const at = new Date(epoch * 1000);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(epoch)} ${offsetOf(at)}`;
}

/** The viewer's zone: "Europe/Berlin, UTC+01:00". */
export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  return name === "UTC" ? name : `${name}, UTC${offsetOf(new Date())}`;
}

/** @param {Date} at "+01:00" */
function offsetOf(at) {
  return signed(-at.getTimezoneOffset());
}

/** @param {number} offset minutes */
function signed(offset) {
  return `${offset < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${grouped.format(n)}${SPACE}${n === 1 ? one : many}`;
}

/** Snake case from the wire to words: "code_agent" → "code agent". @param {string} text */
export function words(text) {
  return text.replaceAll("_", " ");
}
