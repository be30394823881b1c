/**
 * One word for the whole page. Pure.
 *
 * | word | when |
 * |---|---|
 * | STALE | the page cannot vouch for its values: no stream for 5 s, signed out, or stopped |
 * | DOWN | AMIGA is not there, cannot be read, or its process has ended |
 * | DEGRADED | something critical needs a person, or another source is broken or stale |
 * | ATTENTION | something wants to be looked at |
 * | LOADING | there is nothing yet, or AMIGA's database has not been read to its end |
 * | OK | none of these |
 */

/** @typedef {import('./types.js').Snapshot} Snapshot */
/** @typedef {import('./types.js').Source} Source */
/** @typedef {{word: string, level: string, reason: string}} Verdict */

/** How the sources are called on the page. @type {Record<string, string>} */
export const SOURCE_NAMES = {
  host: "Host",
  amiga: "AMIGA database",
  hooks: "Hook logs",
  transcripts: "Transcripts",
  history: "History",
};

/** @param {string} name */
export function sourceName(name) {
  return SOURCE_NAMES[name] ?? name;
}

/** @param {Snapshot|null} snapshot @param {boolean} lost the stream has been gone for 5 s or for good @returns {Verdict} */
export function verdict(snapshot, lost) {
  if (!snapshot) {
    return lost
      ? { word: "STALE", level: "stale", reason: "no data yet" }
      : { word: "LOADING", level: "loading", reason: "waiting for the first values" };
  }
  if (lost) return { word: "STALE", level: "stale", reason: "not connected" };
  const sources = snapshot.sources ?? {};
  const amiga = sources.amiga;
  if (amiga?.state === "missing") return { word: "DOWN", level: "down", reason: "no AMIGA found" };
  if (amiga?.state === "error") return { word: "DOWN", level: "down", reason: "AMIGA's database cannot be read" };
  const process = snapshot.overview?.system?.processes?.amiga;
  if (process && process.alive === false) return { word: "DOWN", level: "down", reason: "AMIGA's process has ended" };

  const broken = Object.entries(sources).filter(([, source]) => source.state === "error" || source.state === "stale");
  const attention = snapshot.attention ?? [];
  const critical = attention.filter((item) => item.severity === "crit").length;
  const count = attention.length === 1 ? "1 needs you" : `${attention.length} need you`;
  if (critical) return { word: "DEGRADED", level: "degraded", reason: count };
  if (broken.length) {
    const [name, source] = broken[0];
    return { word: "DEGRADED", level: "degraded", reason: `${sourceName(name)}: ${source.state}` };
  }
  if (attention.length) return { word: "ATTENTION", level: "attention", reason: count };
  if (amiga?.state === "loading") return { word: "LOADING", level: "loading", reason: "AMIGA's database is being read" };
  // Of a bot that was never seen nobody knows whether it is alive.
  return { word: "OK", level: "ok", reason: process ? "all clear" : "all clear, but no AMIGA process is seen" };
}
