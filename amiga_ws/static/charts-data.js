/**
 * What the charts draw: an answer of `/api/metrics/timeseries`, and what the stream has brought since. No DOM.
 *
 * Slots without a value hold null and stay so: nothing is made up for a time nobody measured.
 */

/**
 * @typedef {{t: number[], min: (number|null)[], max: (number|null)[], avg: (number|null)[], step: number}} Column
 * @typedef {{task_id: string, from: number, to: number|null, status: string, description: string}} Span
 * @typedef {{from: number, to: number, step: number, series: Record<string, Column>, spans?: Span[]}} Answer
 * @typedef {import('./types.js').Snapshot} Snapshot
 */

const EMPTY = Object.freeze({ t: [], min: [], max: [], avg: [], step: 60 });

export class ChartData {
  /** @param {Answer} answer */
  constructor(answer) {
    this.from = answer.from;
    this.to = answer.to;
    this.step = answer.step;
    this.series = answer.series;
    /** @type {Map<string, Span>} */
    this.spans = new Map();
    this.noted = 1; // readings in the newest slot; how many the server had there it does not say
    this.merge(answer);
  }

  /** Newer columns and spans in the place of the old ones. @param {Pick<Answer, 'series'|'spans'>} answer */
  merge(answer) {
    this.series = { ...this.series, ...answer.series };
    for (const span of answer.spans ?? []) this.spans.set(span.task_id, span);
  }

  /** @param {string} name @returns {Column} */
  column(name) {
    return Object.hasOwn(this.series, name) ? this.series[name] : EMPTY;
  }

  /**
   * Take in what the newest snapshot says of now. Slots that passed without a reading stay empty.
   * @param {number} now epoch @param {Record<string, number>} values by series
   * @returns {boolean} whether a new slot began
   */
  note(now, values) {
    const slot = Math.floor(now / this.step) * this.step;
    const fresh = slot >= this.to;
    if (fresh) {
      const span = this.to - this.from;
      this.to = slot + this.step;
      this.from = this.to - span;
    } else if (slot < this.to - this.step) return false; // a clock that was set back
    this.noted = fresh ? 1 : this.noted + 1;
    for (const [name, value] of Object.entries(values)) {
      const column = this.series[name];
      if (column) put(column, slot, this.from, value, this.noted);
    }
    return fresh;
  }

  /** Tasks begin and end between two answers too. @param {Snapshot} snapshot */
  noteTasks(snapshot) {
    for (const task of snapshot.tasks) {
      if (task.created_at === null || task.status === "pending") continue;
      this.spans.set(task.task_id, {
        task_id: task.task_id, from: task.created_at, to: task.status === "running" ? null : task.ended_at ?? task.updated_at,
        status: task.status, description: task.description,
      });
    }
    for (const [id, span] of this.spans) if ((span.to ?? this.to) < this.from) this.spans.delete(id);
  }

  /** Tasks that ran at any time in [from, to], newest first. @param {number} from @param {number} to */
  tasksBetween(from, to) {
    return [...this.spans.values()].filter((span) => span.from <= to && (span.to ?? Infinity) >= from)
      .sort((a, b) => b.from - a.from);
  }
}

/** @param {Column} column @param {number} slot @param {number} from @param {number} value @param {number} noted */
function put(column, slot, from, value, noted) {
  const { t, min, max, avg, step } = column;
  for (let next = t.length ? t[t.length - 1] + step : slot; next <= slot; next += step) {
    t.push(next);
    for (const part of [min, max, avg]) part.push(null);
  }
  const last = t.length - 1;
  const before = avg[last];
  avg[last] = before === null ? value : before + (value - before) / noted;
  min[last] = Math.min(value, min[last] ?? value);
  max[last] = Math.max(value, max[last] ?? value);
  while (t[0] < from) for (const part of [t, min, max, avg]) part.shift();
}

/** The series a snapshot brings, as it stands now; what is unknown or comes from a broken source is absent.
 * @param {Snapshot} snapshot @returns {Record<string, number>} */
export function reading(snapshot) {
  const { system, tasks } = snapshot.overview;
  const good = (/** @type {string} */ source) => snapshot.sources[source]?.state === "ok";
  const bot = system.processes.amiga;
  const disks = system.disks.map((/** @type {any} */ disk) => disk.percent).filter(Number.isFinite);
  /** @type {Record<string, unknown>} */
  const found = {
    ...(good("host") && {
      "host.cpu": system.cpu_percent, "host.load1": system.load?.[0], "host.mem": system.memory.percent,
      "host.swap": system.swap.percent, "host.disk": disks.length ? Math.max(...disks) : null,
      "host.rx": system.network.rx_bytes_s, "host.tx": system.network.tx_bytes_s,
      "host.read": system.disk_io.read_bytes_s, "host.write": system.disk_io.write_bytes_s,
    }),
    ...(good("amiga") && {
      "tasks.running": tasks.running, "tasks.pending": tasks.pending,
      "bot.rss": bot?.rss, "bot.cpu": bot?.cpu_percent, "bot.threads": bot?.threads,
    }),
  };
  return /** @type {Record<string, number>} */ (Object.fromEntries(Object.entries(found).filter(([, value]) => Number.isFinite(value))));
}

/**
 * Ask the server. @param {Record<string, string|number>} query @param {AbortSignal} [signal] @returns {Promise<Answer>}
 */
export async function fetchSeries(query, signal) {
  const reply = await fetch(seriesUrl(query), { signal, headers: { Accept: "application/json" } });
  if (!reply.ok) {
    const told = await reply.json().catch(() => ({}));
    throw new Error(told.error ?? `the server answered ${reply.status}`);
  }
  return reply.json();
}

/** @param {Record<string, string|number>} query */
export function seriesUrl(query) {
  return `/api/metrics/timeseries?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]))}`;
}
