// The rows of a bench: the figures of a row, and how they are made from its steps. Plain data.
import type { Case } from "./cases.js";
import type { StepFigures } from "./work.js";

const FIGURES = {
  /**
   * From the step with the highest peak; `peakBytes` is the sum of weights, states, gradient, streams, kept and work.
   */
  peakBytes: null,
  /** The step's peak above what was alive before it. */
  activationBytes: null,
  stateBytes: null,
  gradientBytes: null,
  weightBytes: null,
  streamBytes: null,
  keptBytes: null,
  workBytes: null,
  /** Stored bits, part of `keptBytes`. */
  bitBytes: null,
  /** Bytes that wait in host memory; on the cpu part of `keptBytes`. */
  hostBytes: null,
  /** Most physical memory of the process, including code and libraries. */
  rssPeakBytes: null,
  tokensPerSecond: null,
  /** Median over the measured steps. */
  stepMs: null,
  /** Loss of the last step. */
  loss: null,
  /**
   * Norm of the difference to the gradients of method store on the same network and batch, divided by the norm of
   * those.
   */
  gradRelativeError: null,
};

/** A figure is null if there is none, as after running out of memory. */
export type BenchRow = Record<keyof typeof FIGURES, number | null> & {
  method: Case["method"];
  coupling: Case["coupling"];
  /** Null if the coupling has none. */
  gamma: number | null;
  optimizer: Case["optimizer"];
  layers: number;
  /** Tokens of one step, all micro-batches together. */
  tokens: number;
  maxLength: number;
  /** "ok", "out of memory", or "failed: " and a sentence. */
  status: string;
};

export interface Entry {
  case: Case;
  row: BenchRow;
  /** The measured steps so far. */
  steps: StepFigures[];
}

export function newEntry(each: Case, layers: number): Entry {
  const { method, coupling, gamma, optimizer, settings } = each;
  const { max_length: maxLength, per_device_train_batch_size: rows, gradient_accumulation_steps: count } = settings;
  const row = {
    method,
    coupling,
    gamma,
    optimizer,
    layers,
    tokens: maxLength * rows * count,
    maxLength,
    ...FIGURES,
    status: "ok",
  };
  return { case: each, row, steps: [] };
}

export function addStep({ row, steps }: Entry, figures: StepFigures, rssPeakBytes: number): void {
  steps.push(figures);
  const {
    stepMs: _ms,
    tokens: _tokens,
    loss: _loss,
    ...bytes
  } = steps.reduce((most, each) => (each.peakBytes > most.peakBytes ? each : most));
  Object.assign(row, bytes, {
    loss: figures.loss,
    tokens: Math.max(...steps.map(({ tokens }) => tokens)),
    stepMs: median(steps.map(({ stepMs }) => stepMs)),
    tokensPerSecond: median(steps.map(({ tokens, stepMs }) => (tokens / stepMs) * 1000)),
    rssPeakBytes,
  });
  // Some engines do not know what was alive on their device.
  if (row.peakBytes === 0)
    Object.assign(row, { peakBytes: null, activationBytes: null, workBytes: null, keptBytes: null });
}

/** Removes the figures of a row; with "ok" the row begins anew, else it has failed. */
export function setStatus(entry: Entry, status: string): void {
  entry.steps = [];
  Object.assign(entry.row, FIGURES, { status });
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
