// Runs as the server describes them. The page asks again and again: often while a run trains, rarely otherwise, never
// while the page is hidden. It fetches only what is new, and only for runs that are shown.
import { RunRecord } from "./record.js";

/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name
 * @property {string} dir
 * @property {number} color which of the colours
 * @property {boolean} shown
 * @property {any} about what the server says of it
 * @property {RunRecord} record
 * @property {{ file: string, offset: number, updatedAt?: number }} place how far its metrics are in `record`
 */

const LIVE_MS = 1000;
const REST_MS = 4000;
export const COLORS = 6;

export class Store {
  /** @type {Run[]} */
  runs = [];
  /** The run whose details are shown. @type {Run | null} */
  detail = null;
  /** @type {string[]} */
  notes = [];
  /** @type {string[]} */
  folders = [];
  /** Why the page may be wrong or old; empty if nothing is wrong. */
  trouble = "";
  loaded = false;
  #timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  #busy = false;

  /** @param {() => void} changed called when there is something new */
  constructor(changed) {
    this.changed = changed;
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  async refresh() {
    clearTimeout(this.#timer);
    if (this.#busy || document.hidden) return;
    this.#busy = true;
    try {
      const { runs, notes, folders } = await ask("/api/runs");
      Object.assign(this, { notes, folders, trouble: "" });
      this.#merge(runs);
      for (const run of this.runs.filter(({ shown }) => shown))
        await this.#follow(run).catch(({ message }) => run.about.notes.push(message));
    } catch (failure) {
      this.trouble = /** @type {Error} */ (failure).message;
    }
    this.#busy = false;
    this.loaded = true;
    try {
      this.changed();
    } finally {
      const isLive = this.runs.some(({ about }) => about.active);
      this.#timer = setTimeout(() => this.refresh(), isLive ? LIVE_MS : REST_MS);
    }
  }

  /** @param {any[]} found */
  #merge(found) {
    const known = new Map(this.runs.map((run) => [run.id, run]));
    const isFirst = this.runs.length === 0;
    const newest = found.toSorted((a, b) => (b.updatedAt ?? 0) - (a.updatedAt ?? 0));
    this.runs = found.map((about) => {
      const shown = isFirst ? newest.indexOf(about) < COLORS : about.active;
      const run = known.get(about.id) ?? {
        id: about.id,
        color: this.#freeColor(known),
        shown,
        record: new RunRecord(),
        place: { file: "", offset: 0 },
      };
      known.set(about.id, /** @type {Run} */ (Object.assign(run, { about, name: about.name, dir: about.dir })));
      return /** @type {Run} */ (run);
    });
    if (this.detail && this.runs.includes(this.detail)) return;
    const first = newest.find(({ active }) => active) ?? newest[0];
    this.detail = this.runs.find(({ id }) => id === first?.id) ?? null;
  }

  /** The colour that the fewest runs have. @param {Map<string, any>} known */
  #freeColor(known) {
    const used = Array(COLORS).fill(0);
    for (const { color } of known.values()) used[color]++;
    return used.indexOf(Math.min(...used));
  }

  /** Fetches new lines of a run's metrics. @param {Run} run */
  async #follow(run) {
    const { place } = run;
    if (place.updatedAt === run.about.updatedAt) return;
    for (let more = true; more; ) {
      const piece = await ask(`/api/runs/${run.id}/metrics?file=${place.file}&offset=${place.offset}`);
      if (piece.restarted) run.record = new RunRecord();
      run.record.add(piece);
      Object.assign(place, { file: piece.file, offset: piece.offset });
      more = piece.more;
    }
    place.updatedAt = run.about.updatedAt;
  }

  /** @param {Run} run @param {boolean} shown */
  setShown(run, shown) {
    run.shown = shown;
    this.changed();
    if (shown) this.refresh();
  }

  /** @param {Run} run */
  setDetail(run) {
    this.detail = run;
    this.setShown(run, true);
  }
}

/** @param {string} address */
async function ask(address) {
  const answer = await fetch(address).catch(() => {
    throw new Error("The server does not answer. Start revmoe dashboard again; this page goes on by itself.");
  });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.problem ?? `The server answers ${answer.status} to ${address}.`);
  return found;
}
