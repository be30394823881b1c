/** Times of charts in words, in the viewer's zone. No DOM. */
const DAY_S = 86_400;
const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const month = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric" });

/** uPlot's labels of the axis: the date where the day changes, else the time.
 * @param {any} _u @param {number[]} splits @param {number} _axis @param {number} _space @param {number} step seconds */
export function axisTime(_u, splits, _axis, _space, step) {
  let before = "";
  return splits.map((epoch) => {
    const at = new Date(epoch * 1000);
    if (step >= 28 * DAY_S) return month.format(at);
    const date = day.format(at);
    const words = step >= DAY_S || (date !== before && at.getHours() === 0 && at.getMinutes() === 0) ? date : clock(at, step < 60);
    before = date;
    return words;
  });
}

/** A moment between points of `step` seconds: "14:02:10", "25 Nov 14:02", "25 Nov". @param {number} epoch @param {number} step @param {number} now */
export function pointTime(epoch, step, now) {
  const at = new Date(epoch * 1000);
  const date = day.format(at);
  if (step >= DAY_S) return date;
  const time = clock(at, step < 60);
  return date === day.format(new Date(now * 1000)) ? time : `${date} ${time}`;
}

/** @param {Date} at @param {boolean} seconds */
function clock(at, seconds) {
  return `${pad(at.getHours())}:${pad(at.getMinutes())}${seconds ? `:${pad(at.getSeconds())}` : ""}`;
}

/** "Europe/Berlin" */
export function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local time";
}
