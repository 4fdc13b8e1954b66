// One training step: micro-batches pass the blocks layer by layer, the loss behind the last block begins the backward
// pass, and every block is updated as soon as its gradient is whole. At any time there exist the streams of the
// micro-batches, one block's gradient and one block's working set. A limit on the norm of all gradients needs that norm
// before the first update: then a first backward pass measures and discards, and a second one updates.
import { UserError } from "../errors.js";
import type { SizedBatch } from "../data/batches.js";
import type { Inverse } from "../metrics/record.js";
import type { Solution } from "../reversible/fixed-point.js";
import { clipFactor } from "../optim/clip.js";
import { ALONE } from "../parallel/collectives.js";
import type { Method } from "../reversible/methods/method.js";
import { agreed, checkAlike } from "../parallel/agreed.js";
import { BlockPass } from "./block-pass.js";
import { BlockUpdates, type UpdateOptions } from "./block-updates.js";
import { passForward } from "./forward.js";
import { freeMicroBatch, type MicroBatch, type Report, restore, save, streamBytesOf } from "./micro-batch.js";
import { correctingChoice } from "./router/expert-load.js";
import { travelingExperts } from "../network/traveling/traveling-experts.js";
import { type Network, type Segment, segmentsOf } from "../network/network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { RouterLosses, type RouterLossSettings } from "./router/losses.js";
import type { Teacher } from "./teacher.js";
import { passBack } from "./backward.js";

export interface StepOptions extends UpdateOptions {
  method: Method;
  /** Largest norm of all gradients together; 0 or nothing: no limit, and one backward pass. */
  maxGradNorm?: number;
  /**
   * The router's losses, noise on its input, and the rate at which the corrections of its choice move; without it, none
   * of these.
   */
  router?: RouterLossSettings & { jitterNoise: number; correctionRate?: number };
  /** Gives the logits to learn, at every token; without it, the labels are learnt. */
  teacher?: Teacher;
  /** How many ranks hold each micro-batch together; such ranks add gradients in the order "direct". 1 by default. */
  sequenceRanks?: number;
}

export interface StepResult {
  /** Mean per trained token of the whole step: cross-entropy, or divergence from the teacher. */
  loss: number;
  /** Share of the trained tokens that have the largest logit; null where a teacher is learnt. */
  accuracy: number | null;
  trainedTokens: number;
  /** Norm of all gradients before clipping. */
  gradNorm: number;
  streamBytes: number;
  /** What the method kept of the forward pass for the backward pass; stored bits and routing are part of it. */
  keptBytes: number;
  bitBytes: number;
  routingBytes: number;
  /** Bytes that wait in host memory; on the CPU they are part of `keptBytes`. */
  hostBytes: number;
  /** Most bytes of gradients that were alive at once. */
  gradientBytes: number;
  /** Bytes that a teacher keeps until the loss; the weights of the block it passes are not counted. */
  teacherBytes: number;
  /** Largest difference between the rebuilt and the true first streams; null where the first block is not rebuilt. */
  reconstructionError: number | null;
  inverse: Inverse | null;
  /** Load-balancing loss and z-loss of the router, without their coefficients, not part of `loss`; null where off. */
  auxLoss: number | null;
  zLoss: number | null;
  /** Tokens per expert, by layer. */
  expertCounts: Map<number, number[]>;
}

/**
 * Computes the loss of one step over its micro-batches, and updates. All ranks are given all `batches`. The results are
 * those of all ranks; only bytes are this rank's. Frees all it made, also when it throws.
 */
export function trainStep(
  stored: Network,
  states: OptimizerStates,
  batches: SizedBatch[],
  options: StepOptions,
): StepResult {
  const { method, step, seed, router, teacher, maxGradNorm = 0, ranks = ALONE, sequenceRanks = 1 } = options;
  const trainedTokens = trainedTokensOf(batches, options);
  const traveling = stored.store.sharing?.expertsStay() ? travelingExperts(stored, ranks) : undefined;
  const network = { ...stored, traveling };
  const segments = segmentsOf(network);
  const solutions: [number, Solution][] = [];
  const reportOf =
    ({ firstLayer = 0 }: Segment): Report =>
    (unit, solution) =>
      void solutions.push([firstLayer + unit, solution]);
  const routerLosses = routerLossesOf(network, batches, router);
  const pass = new BlockPass(network, segments, method, reportOf);
  const microBatches: MicroBatch[] = [];
  const watch = network.format.watch(network.device);
  const ended = { network, pass, segments, microBatches, teacher, watch, lossScale: 1 / trainedTokens };
  const [first] = segments;
  const beginning = { segment: first, step, seed, jitterNoise: router?.jitterNoise ?? 0, report: reportOf(first) };
  // Graphs serve one backward pass, so such a method saves the beginning and passes forward again. Others save the end.
  const savesBeginning = maxGradNorm > 0 && method.holdsBlocks;
  try {
    const { expertCounts, ...forward } = passForward(batches, {
      ...{ network, segments, pass, microBatches, beginning, routerLosses, watch, ranks, sequenceRanks },
      begun: () => savesBeginning && microBatches.forEach(save),
    });
    let gradientScale = 1;
    let savedBytes = 0;
    if (maxGradNorm > 0) {
      if (!savesBeginning) microBatches.forEach(save);
      savedBytes = microBatches.reduce((sum, { saved }) => sum + streamBytesOf(saved), 0);
      gradientScale = clipFactor(passBack(ended, new BlockUpdates(null, options, network)).gradNorm, maxGradNorm);
      if (ranks.world > 1) agreed(ranks, () => watch.look());
      microBatches.forEach(restore);
      solutions.length = 0;
      if (savesBeginning) pass.forward(microBatches);
    }
    const rate = router?.correctionRate ?? 0;
    const also = rate > 0 ? correctingChoice(rate, expertCounts, network.trains) : undefined;
    const updates = new BlockUpdates(states, { ...options, gradientScale, also }, network);
    const { gradientOfStreamBytes, ...figures } = passBack(ended, updates);
    agreed(ranks, () => watch.look());
    const results = ranks.gather({ ...figures, solutions });
    checkAlike(ranks, step, results);
    const errors = results.map(({ reconstructionError }) => reconstructionError);
    return {
      ...figures,
      ...forward,
      reconstructionError: errors.every((error) => error !== null) ? Math.max(...errors) : null,
      trainedTokens,
      streamBytes: forward.streamBytes + gradientOfStreamBytes + savedBytes,
      inverse: summary(results.flatMap((each) => each.solutions)),
      expertCounts,
      ...(routerLosses?.values() ?? { auxLoss: null, zLoss: null }),
    };
  } finally {
    microBatches.forEach(freeMicroBatch);
    pass.close();
    traveling?.close();
    watch.close();
  }
}

/** Errors: UserError where no token is trained, or where the method cannot make experts' gradients in groups. */
function trainedTokensOf(
  batches: SizedBatch[],
  { method, step, teacher, expertGroupSize }: Pick<StepOptions, "method" | "step" | "teacher" | "expertGroupSize">,
): number {
  if (method.holdsBlocks && expertGroupSize)
    throw new UserError(
      `step ${step}: method ${method.name} makes every gradient of a block at once: expertGroupSize must be 0.`,
    );
  const trained = batches.reduce((sum, batch) => sum + (teacher ? batch.tokens.length : batch.trainedTokens), 0);
  if (trained === 0)
    throw new UserError(`step ${step}: no token of this step is trained. Use longer max_length or larger batches.`);
  return trained;
}

function routerLossesOf(
  { model }: Network,
  batches: SizedBatch[],
  settings: RouterLossSettings | undefined,
): RouterLosses | null {
  if (!settings || settings.auxCoef + settings.zCoef === 0) return null;
  const tokens = batches.reduce((sum, batch) => sum + batch.tokens.length, 0);
  return new RouterLosses(settings, model.architecture, tokens);
}

function summary(solutions: [number, Solution][]): Inverse | null {
  if (solutions.length === 0) return null;
  return {
    iterations: solutions.reduce((sum, [, { iterations }]) => sum + iterations, 0) / solutions.length,
    residual: Math.max(...solutions.map(([, { residual }]) => residual)),
    diverged: [...new Set(solutions.filter(([, { diverged }]) => diverged).map(([layer]) => layer))].sort(
      (a, b) => a - b,
    ),
  };
}
