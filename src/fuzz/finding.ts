// What a worker tells its supervisor: how far it is, and what it found.

export interface Progress {
  /** The number of the input that is being read; at the end, the one after the last. */
  index: number;
  accepted: number;
  refused: number;
  slowestMs: number;
  peakBytes: number;
}

export interface Finding {
  reader: string;
  index: number;
  kind: "raw error" | "hang" | "crash" | "memory";
  /** Findings with the same text count as the same. */
  what: string;
}

export const PROGRESS_BYTES = 256;
export const LIMIT_MS = 5000;
export const LIMIT_BYTES = 2 * 2 ** 30;

/** The message without the parts that differ between inputs, and the place that threw. */
export function describeFailure(failure: unknown): string {
  if (!(failure instanceof Error)) return `threw ${typeof failure}`;
  const at = /\n\s+at (.*)/.exec(failure.stack ?? "")?.[1] ?? "";
  return `${failure.name}: ${failure.message.slice(0, 120)} ${at.replace(/\(?file:\/\/.*\/dist\//, "(").replace(/:\d+\)?$/, ")")}`.replaceAll(
    /\s+/g,
    " ",
  );
}
