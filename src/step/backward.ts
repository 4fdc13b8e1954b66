// The way back of a step, from the streams behind the last block to the embedding: once to update, and once before that where
// the norm of all gradients must be known first. Owns the gradients on the way; micro-batches are the caller's.
import { crossEntropy } from "../reversible/objectives.js";
import { abs, amax, sub } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { byteSize, item, type Tensor } from "../torch/tensor.js";
import type { BlockPass } from "./block-pass.js";
import type { BlockUpdates } from "./block-updates.js";
import type { MicroBatch } from "./micro-batch.js";
import { embed, type Network, type Segment } from "../network/network.js";
import { embeddingGradient, headAndLoss } from "./outer-gradients.js";
import type { Teacher } from "./teacher.js";

export interface WayBack {
  loss: number;
  gradNorm: number;
  gradientBytes: number;
  gradientOfStreamBytes: number;
  reconstructionError: number | null;
  /** What the teacher's lesson took until the loss was known. */
  teacherBytes: number;
}

/** Where the forward pass ended. */
export interface Ended {
  network: Network;
  pass: BlockPass;
  segments: Segment[];
  works: MicroBatch[];
  /** Whose logits are learnt, asked anew on every way back; without it, the labels. */
  teacher?: Teacher;
  /** 1 / trained tokens of the step. */
  lossScale: number;
}

/** From the streams behind the last block to the embedding; `updates` is closed. */
export function passBack(from: Ended, updates: BlockUpdates): WayBack {
  const { network, pass, segments, works } = from;
  const [first, last] = [segments[0], segments[segments.length - 1]];
  network.tier?.wayBack?.(updates.applies);
  try {
    const { loss, tied, teacherBytes } = lossOf(from, last, updates);
    const gradientOfStreamBytes = works.reduce((sum, { dHidden_TD }) => sum + byteSize(dHidden_TD as Tensor), 0) * last.coupling.numStreams;
    pass.backward(works, updates);
    const rebuilt = pass.methodOf(first).name === "reversible";
    const reconstructionError = rebuilt ? Math.max(...works.map((work) => errorOf(network, first, work))) : null;
    embeddingGradient(network, works, updates, tied);
    return { loss, gradNorm: updates.norm, gradientBytes: updates.peakBytes, reconstructionError, gradientOfStreamBytes, teacherBytes };
  } finally {
    updates.close();
    network.tier?.wayBack?.(false);
  }
}

/** The lesson, if there is one, goes as soon as it is learnt. */
function lossOf(from: Ended, last: Segment, updates: BlockUpdates): ReturnType<typeof headAndLoss> & { teacherBytes: number } {
  const { network, works, teacher, lossScale } = from;
  const batches = works.map(({ batch }) => batch);
  const lesson = teacher?.lesson(batches);
  try {
    const objectives = lesson?.objectives ?? batches.map(({ labels, trainedTokens }) => crossEntropy(labels, trainedTokens));
    return { ...headAndLoss(network, last, works, updates, { objectives, lossScale }), teacherBytes: lesson?.bytes ?? 0 };
  } finally {
    lesson?.free();
  }
}

/** Largest difference between the rebuilt and the true streams in front of the first block. */
function errorOf(network: Network, { coupling, format }: Segment, { batch, parts }: MicroBatch): number {
  return scope(() => {
    const truth = coupling.begin(embed(network, batch.tokens), format);
    return Math.max(...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(parts[0].streams[i]), format.toFloat(stream)))))));
  });
}
