// The way back of a step, from the streams behind the last block to the embedding: once to update, and once before that where
// the norm of all gradients must be known first. Owns the gradients on the way; micro-batches are the caller's.
import { abs, amax, sub } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { byteSize, item, type Tensor } from "../torch/tensor.js";
import type { BlockPass } from "./block-pass.js";
import type { BlockUpdates } from "./block-updates.js";
import type { MicroBatch } from "./micro-batch.js";
import { embed, type Network, type Segment } from "./network.js";
import { embeddingGradient, headAndLoss } from "./outer-gradients.js";

export interface WayBack {
  loss: number;
  gradNorm: number;
  gradientBytes: number;
  gradientOfStreamBytes: number;
  reconstructionError: number | null;
}

/** Where the forward pass ended. */
export interface Ended {
  network: Network;
  pass: BlockPass;
  segments: Segment[];
  works: MicroBatch[];
  /** 1 / trained tokens of the step. */
  lossScale: number;
  step: number;
}

/** From the streams behind the last block to the embedding; `updates` is closed. */
export function passBack(from: Ended, updates: BlockUpdates): WayBack {
  const { network, pass, segments, works } = from;
  const [first, last] = [segments[0], segments[segments.length - 1]];
  try {
    const { loss, tied } = headAndLoss(network, last, works, updates, from);
    const gradientOfStreamBytes = works.reduce((sum, { dHidden_TD }) => sum + byteSize(dHidden_TD as Tensor), 0) * last.coupling.numStreams;
    pass.backward(works, updates);
    const rebuilt = pass.methodOf(first).name === "reversible";
    const reconstructionError = rebuilt ? Math.max(...works.map((work) => errorOf(network, first, work))) : null;
    embeddingGradient(network, works, updates, tied);
    return { loss, gradNorm: updates.norm, gradientBytes: updates.peakBytes, reconstructionError, gradientOfStreamBytes };
  } finally {
    updates.close();
  }
}

/** Largest difference between the rebuilt and the true streams in front of the first block. */
function errorOf(network: Network, { coupling, format }: Segment, { batch, parts }: MicroBatch): number {
  return scope(() => {
    const truth = coupling.begin(embed(network, batch.tokens), format);
    return Math.max(...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(parts[0].streams[i]), format.toFloat(stream)))))));
  });
}
