// What a step spends on parameters that lie elsewhere, in milliseconds. Nested work counts for both measurements.

export interface StoreTimes {
  /** Waiting for a part; on a GPU, which waits by itself, only asking for it. */
  waitMs: number;
  /** Norm, clipping and update of weights and state, and making gradients of experts in groups. */
  updateMs: number;
  /** Saving old bytes before they are changed. */
  logMs: number;
  /** Waiting at the end of a step until all changes are stored. */
  syncMs: number;
}

export const NO_TIME: StoreTimes = { waitMs: 0, updateMs: 0, logMs: 0, syncMs: 0 };

export class Stopwatch {
  #times = { ...NO_TIME };

  measure<T>(kind: keyof StoreTimes, work: () => T): T {
    const started = performance.now();
    const made = work();
    this.#times[kind] += performance.now() - started;
    return made;
  }

  /** The times since the last call. */
  take(): StoreTimes {
    const times = this.#times;
    this.#times = { ...NO_TIME };
    return times;
  }
}
