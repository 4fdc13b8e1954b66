// How a run learns that it shall stop. The command's is in stop-signals.ts.

import type { Collectives } from "../../parallel/collectives.js";

/** An AbortSignal, or anything that says as much. */
export interface StopSignal {
  readonly aborted: boolean;
  /** Told of every checkpoint. */
  saved?(folder: string): void;
}

/** All ranks stop where one of them shall; each look at `aborted` is one of all. */
export function agreedStop(asked: StopSignal, ranks: Collectives): StopSignal {
  if (ranks.world === 1) return asked;
  return {
    get aborted() {
      return ranks.gather(asked.aborted).includes(true);
    },
    saved: (folder) => asked.saved?.(folder),
  };
}
