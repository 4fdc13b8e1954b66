// How a run learns that it shall stop. The command's is in stop-signals.ts.

/** An AbortSignal, or anything that says as much. */
export interface StopSignal {
  readonly aborted: boolean;
  /** Told of every checkpoint. */
  saved?(folder: string): void;
}
