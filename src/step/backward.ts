// The backward pass of a step, from the streams behind the last block to the embedding. It runs once to update; where
// the norm of all gradients must be known first, it runs once before that. Owns the gradients on the way; the caller
// owns micro-batches.
import { crossEntropy } from "../reversible/objectives.js";
import type { Watch } from "../reversible/streams.js";
import { abs, amax, sub } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { byteSize, item, type Tensor } from "../torch/tensor.js";
import type { BlockPass } from "./block-pass.js";
import type { BlockUpdates } from "./block-updates.js";
import type { MicroBatch } from "./micro-batch.js";
import { backwardOrder, embed, type Network, type Segment } from "../network/network.js";
import { EMBEDDING, HEAD } from "../store/store.js";
import { embeddingGradient, headAndLoss } from "./outer-gradients.js";
import type { Teacher } from "./teacher.js";

export interface BackwardResult {
  loss: number;
  accuracy: number | null;
  gradNorm: number;
  gradientBytes: number;
  gradientOfStreamBytes: number;
  reconstructionError: number | null;
  /** Bytes of the teacher's targets, which are held until the loss is known. */
  teacherBytes: number;
}

/** Where the forward pass ended. */
export interface Ended {
  network: Network;
  pass: BlockPass;
  segments: Segment[];
  microBatches: MicroBatch[];
  /** Gives the targets, anew in every backward pass; without it, the labels are the targets. */
  teacher?: Teacher;
  /** Looked at beside the loss, to learn whether streams are sound. */
  watch: Watch;
  /** 1 / trained tokens of the step. */
  lossScale: number;
}

/** Runs the backward pass, from the streams behind the last block to the embedding; closes `updates`. */
export function passBack(from: Ended, updates: BlockUpdates): BackwardResult {
  const { store, traveling } = from.network;
  const pass = (): BackwardResult => {
    try {
      return backward(from, updates);
    } catch (failure) {
      throw updates.asKnown(failure);
    } finally {
      updates.close();
    }
  };
  const parts = [HEAD, ...backwardOrder(from.segments), EMBEDDING];
  return store.pass(parts, () => store.backward(updates.applies, pass), traveling?.stays);
}

function backward(from: Ended, updates: BlockUpdates): BackwardResult {
  const { network, pass, segments, microBatches } = from;
  const [first, last] = [segments[0], segments[segments.length - 1]];
  const throughBlocks = () => {
    const { teacherBytes, ...loss } = lossOf(from, last, updates);
    const hiddenBytes = microBatches.reduce((sum, { dHidden_TD }) => sum + byteSize(dHidden_TD as Tensor), 0);
    pass.backward(microBatches, updates);
    return { ...loss, teacherBytes, gradientOfStreamBytes: hiddenBytes * last.coupling.numStreams };
  };
  const { measured, tied, teacherBytes, gradientOfStreamBytes } =
    network.traveling?.together(throughBlocks) ?? throughBlocks();
  const rebuilt = pass.methodOf(first).rebuilds;
  const reconstructionError = rebuilt
    ? Math.max(...microBatches.map((microBatch) => errorOf(network, first, microBatch)))
    : null;
  embeddingGradient(network, microBatches, updates, tied);
  updates.finish();
  const { loss, accuracy } = measured();
  return {
    loss,
    accuracy: from.teacher ? null : accuracy,
    gradNorm: updates.norm,
    gradientBytes: updates.peakBytes,
    reconstructionError,
    gradientOfStreamBytes,
    teacherBytes,
  };
}

/** Loss and its gradient; frees a teacher's targets at its end. */
function lossOf(
  from: Ended,
  last: Segment,
  updates: BlockUpdates,
): ReturnType<typeof headAndLoss> & { teacherBytes: number } {
  const { network, microBatches, teacher, watch, lossScale } = from;
  const batches = microBatches.map(({ batch }) => batch);
  const targets = teacher?.targets(batches);
  try {
    const objectives = batches.map(({ labels, trainedTokens, isFill }, i) =>
      targets && !isFill ? targets.objectives[i] : crossEntropy(labels, trainedTokens),
    );
    return {
      ...headAndLoss(network, last, microBatches, updates, { objectives, lossScale, watch }),
      teacherBytes: targets?.bytes ?? 0,
    };
  } finally {
    targets?.free();
  }
}

/** Largest difference between the rebuilt and the true streams in front of the first block. */
function errorOf(network: Network, { coupling, format }: Segment, { batch, parts }: MicroBatch): number {
  return scope(() => {
    const truth = coupling.begin(embed(network, batch.tokens), format);
    return Math.max(
      ...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(parts[0].streams[i]), format.toFloat(stream)))))),
    );
  });
}
