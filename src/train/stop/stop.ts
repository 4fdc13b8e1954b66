// How a run learns that it must stop. The command's way is in stop-signals.ts.

import type { Collectives } from "../../parallel/collectives.js";

/** An AbortSignal, or any object with the same property. */
export interface StopSignal {
  readonly aborted: boolean;
  /** Called with the folder of every checkpoint. */
  saved?(folder: string): void;
}

/**
 * A signal on which all ranks stop if one of them must. Reading `aborted` is a collective call: every rank must do it.
 */
export function agreedStop(asked: StopSignal, ranks: Collectives): StopSignal {
  if (ranks.world === 1) return asked;
  return {
    get aborted() {
      return ranks.gather(asked.aborted).includes(true);
    },
    saved: (folder) => asked.saved?.(folder),
  };
}
