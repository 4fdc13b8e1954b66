// One training step: micro-batches pass the blocks layer by layer, the loss behind the last one begins the way back, and
// every block is updated as soon as its gradient is whole. At any time there exist the streams of the micro-batches, one
// block's gradient and one block's working set.
import { UserError } from "../errors.js";
import type { Batch } from "../data/batches.js";
import type { Inverse } from "../metrics/record.js";
import type { Solution } from "../reversible/fixed-point.js";
import { bitBytes, hostBytes, type Method } from "../reversible/methods.js";
import { ledger } from "../torch/memory.js";
import { abs, amax, sub } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { byteSize, item, type Tensor } from "../torch/tensor.js";
import { BlockPass } from "./block-pass.js";
import { BlockUpdates, type UpdateOptions } from "./block-updates.js";
import { freeMicroBatch, type MicroBatch, type Report, startMicroBatch, streamBytesOf } from "./micro-batch.js";
import { embed, type Network, type Segment, segmentsOf } from "./network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { embeddingGradient, headAndLoss } from "./outer-gradients.js";
import { RouterLosses, type RouterLossSettings } from "./router-losses.js";

export interface StepOptions extends UpdateOptions {
  method: Method;
  /** Losses on the router's logits and noise on its input; without it, none. */
  router?: RouterLossSettings & { jitterNoise: number };
}

export interface StepResult {
  /** Mean cross-entropy per trained token of the whole step. */
  loss: number;
  trainedTokens: number;
  gradNorm: number;
  streamBytes: number;
  /** What the method kept of the forward pass for the backward pass; stored bits and routing are part of it. */
  keptBytes: number;
  bitBytes: number;
  routingBytes: number;
  /** What waits in host memory; on the CPU it is part of `keptBytes`. */
  hostBytes: number;
  /** Bytes of the largest gradient that was alive at once. */
  gradientBytes: number;
  /** Largest difference between the rebuilt and the true first streams; null where the first block is not rebuilt. */
  reconstructionError: number | null;
  inverse: Inverse | null;
  /** Load-balancing loss and z-loss of the router, without their coefficients and no part of `loss`; null where off. */
  auxLoss: number | null;
  zLoss: number | null;
  /** Tokens per expert, by layer. */
  expertCounts: Map<number, number[]>;
}

/** Loss and update of one step over its micro-batches. Frees all it made, also when it throws. */
export function trainStep(network: Network, states: OptimizerStates, batches: Batch[], options: StepOptions): StepResult {
  const { method, step, seed, router } = options;
  const trainedTokens = batches.reduce((total, batch) => total + batch.trainedTokens, 0);
  if (trainedTokens === 0) throw new UserError(`step ${step}: no token of this step is trained. Use longer max_length or larger batches.`);
  const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0);
  const segments = segmentsOf(network);
  const [first] = segments;
  const solutions: [number, Solution][] = [];
  const reportOf =
    ({ firstLayer = 0 }: Segment): Report =>
    (unit, solution) =>
      void solutions.push([firstLayer + unit, solution]);
  const routerLosses = router && router.auxCoef + router.zCoef > 0 ? new RouterLosses(router, network.model.config, tokens) : null;
  const pass = new BlockPass(network, segments, method, reportOf);
  const updates = new BlockUpdates(states, options, network);
  const works: MicroBatch[] = [];
  try {
    const jitterNoise = router?.jitterNoise ?? 0;
    const beginning = { segment: first, step, seed, jitterNoise, observer: routerLosses, report: reportOf(first) };
    for (const [index, batch] of batches.entries()) works.push(startMicroBatch(network, batch, index, beginning));

    const liveBefore = ledger(network.device).liveBytes;
    const beganBytes = streamBytesOf(works);
    pass.forward(works);
    const expertCounts = addCounts(works.map(({ routing }) => routing.counts()));
    routerLosses?.complete(expertCounts);
    const endedBytes = streamBytesOf(works);
    // What has come to live since before the first block, but for the streams themselves.
    const keptBytes = ledger(network.device).liveBytes - liveBefore - (endedBytes - beganBytes);
    const stored = storedBytes(works);

    const last = segments[segments.length - 1];
    const { loss, tied } = headAndLoss(network, last, works, updates, { lossScale: 1 / trainedTokens, step });
    const gradientOfStreamBytes = works.reduce((sum, { dHidden_TD }) => sum + byteSize(dHidden_TD as Tensor), 0) * last.coupling.numStreams;
    pass.backward(works, updates);
    const rebuilt = pass.methodOf(first).name === "reversible";
    const reconstructionError = rebuilt ? Math.max(...works.map((work) => errorOf(network, first, work))) : null;
    embeddingGradient(network, works, updates, tied);
    return {
      loss,
      trainedTokens,
      gradNorm: updates.norm,
      streamBytes: endedBytes + gradientOfStreamBytes,
      keptBytes,
      ...stored,
      gradientBytes: updates.peakBytes,
      reconstructionError,
      inverse: summary(solutions),
      expertCounts,
      ...(routerLosses?.values() ?? { auxLoss: null, zLoss: null }),
    };
  } finally {
    works.forEach(freeMicroBatch);
    pass.close();
    updates.close();
  }
}

function storedBytes(works: MicroBatch[]): Pick<StepResult, "bitBytes" | "routingBytes" | "hostBytes"> {
  const total = (size: (work: MicroBatch) => number): number => works.reduce((sum, work) => sum + size(work), 0);
  return {
    bitBytes: total(({ parts }) => parts.reduce((sum, part) => sum + bitBytes(part), 0)),
    routingBytes: total(({ routing }) => routing.bytes),
    hostBytes: total(({ parts }) => parts.reduce((sum, part) => sum + hostBytes(part), 0)),
  };
}

/** Largest difference between the rebuilt and the true streams in front of the first block. */
function errorOf(network: Network, { coupling, format }: Segment, { batch, parts }: MicroBatch): number {
  return scope(() => {
    const truth = coupling.begin(embed(network, batch.tokens), format);
    return Math.max(...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(parts[0].streams[i]), format.toFloat(stream)))))));
  });
}

function summary(solutions: [number, Solution][]): Inverse | null {
  if (solutions.length === 0) return null;
  return {
    iterations: solutions.reduce((sum, [, { iterations }]) => sum + iterations, 0) / solutions.length,
    residual: Math.max(...solutions.map(([, { residual }]) => residual)),
    diverged: [...new Set(solutions.filter(([, { diverged }]) => diverged).map(([layer]) => layer))].sort((a, b) => a - b),
  };
}

function addCounts(maps: Map<number, number[]>[]): Map<number, number[]> {
  const totals = new Map<number, number[]>();
  for (const map of maps) {
    for (const [layer, counts] of map)
      totals.set(
        layer,
        counts.map((count, expert) => count + (totals.get(layer)?.[expert] ?? 0)),
      );
  }
  return totals;
}
