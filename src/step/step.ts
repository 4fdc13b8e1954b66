// One training step: micro-batches pass the blocks layer by layer, the loss behind the last one begins the backward pass, and
// every block is updated as soon as its gradient is whole. At any time there exist the streams of the micro-batches, one
// block's gradient and one block's working set. A limit on the norm of all gradients needs that norm before the first update:
// a first backward pass measures and discards, a second one updates.
import { BadValuesError, UserError } from "../errors.js";
import type { SizedBatch } from "../data/batches.js";
import type { Inverse } from "../metrics/record.js";
import type { Solution } from "../reversible/fixed-point.js";
import { clipFactor } from "../optim/clip.js";
import { ALONE, shareOf } from "../parallel/collectives.js";
import { sequenceGroup } from "../parallel/sequence-group.js";
import { bitBytes, hostBytes, type Method } from "../reversible/methods/method.js";
import { ledger } from "../torch/memory.js";
import { agreed, checkAlike } from "../parallel/agreed.js";
import { BlockPass } from "./block-pass.js";
import { BlockUpdates, type UpdateOptions } from "./block-updates.js";
import {
  freeMicroBatch,
  type MicroBatch,
  type Report,
  restore,
  save,
  startMicroBatch,
  streamBytesOf,
} from "./micro-batch.js";
import { correctingChoice } from "./expert-load.js";
import { heldBatch } from "../network/held-batch.js";
import { travelingExperts } from "../network/traveling/traveling-experts.js";
import { forwardOrder, type Network, type Segment, segmentsOf } from "../network/network.js";
import { EMBEDDING } from "../store/store.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { NOTHING_OBSERVED, type Observed, RouterLosses, type RouterLossSettings } from "./router-losses.js";
import type { Teacher } from "./teacher.js";
import { passBack } from "./backward.js";

export interface StepOptions extends UpdateOptions {
  method: Method;
  /** Largest norm of all gradients together; 0 or nothing: no limit, and one backward pass. */
  maxGradNorm?: number;
  /** Losses on the router's logits, noise on its input, and by how much the corrections of its choice move; without it, none. */
  router?: RouterLossSettings & { jitterNoise: number; correctionRate?: number };
  /** Whose logits are learnt, at every token; without it, the labels. */
  teacher?: Teacher;
  /** How many ranks hold each micro-batch together; their gradients are added "direct". 1 unless said otherwise. */
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
  /** What waits in host memory; on the CPU it is part of `keptBytes`. */
  hostBytes: number;
  /** Bytes of the largest gradient that was alive at once. */
  gradientBytes: number;
  /** What a teacher keeps until the loss, beside the weights of a block while it passes. */
  teacherBytes: number;
  /** Largest difference between the rebuilt and the true first streams; null where the first block is not rebuilt. */
  reconstructionError: number | null;
  inverse: Inverse | null;
  /** Load-balancing loss and z-loss of the router, without their coefficients and no part of `loss`; null where off. */
  auxLoss: number | null;
  zLoss: number | null;
  /** Tokens per expert, by layer. */
  expertCounts: Map<number, number[]>;
}

/** What all ranks are told of one's forward pass. */
interface Began {
  counts: Map<number, number[]>;
  observed: Observed;
}

/**
 * Loss and update of one step over its micro-batches, which all ranks are given. Figures are of all of them, but for bytes, which are this rank's.
 * Frees all it made, also when it throws.
 */
export function trainStep(
  stored: Network,
  states: OptimizerStates,
  batches: SizedBatch[],
  options: StepOptions,
): StepResult {
  const { method, step, seed, router, teacher, maxGradNorm = 0, ranks = ALONE, sequenceRanks = 1 } = options;
  const traveling = stored.store.sharing?.expertsStay() ? travelingExperts(stored, ranks) : undefined;
  const network = { ...stored, traveling };
  const trainedTokens = batches.reduce(
    (total, batch) => total + (teacher ? batch.tokens.length : batch.trainedTokens),
    0,
  );
  if (method.holdsBlocks && options.expertGroupSize) {
    throw new UserError(
      `step ${step}: method ${method.name} makes every gradient of a block at once: expertGroupSize must be 0.`,
    );
  }
  if (trainedTokens === 0)
    throw new UserError(`step ${step}: no token of this step is trained. Use longer max_length or larger batches.`);
  const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0);
  const segments = segmentsOf(network);
  const [first] = segments;
  const group = sequenceGroup(ranks, sequenceRanks);
  const [from, end] = shareOf(group.among, batches.length);
  const solutions: [number, Solution][] = [];
  const reportOf =
    ({ firstLayer = 0 }: Segment): Report =>
    (unit, solution) =>
      void solutions.push([firstLayer + unit, solution]);
  const routerLosses =
    router && router.auxCoef + router.zCoef > 0 ? new RouterLosses(router, network.model.architecture, tokens) : null;
  const pass = new BlockPass(network, segments, method, reportOf);
  const microBatches: MicroBatch[] = [];
  const watch = network.format.watch(network.device);
  const ended = { network, pass, segments, microBatches, teacher, watch, lossScale: 1 / trainedTokens };
  try {
    const jitterNoise = router?.jitterNoise ?? 0;
    const beginning = { segment: first, step, seed, jitterNoise, observer: routerLosses, report: reportOf(first) };
    const live = (): number => ledger(network.device).liveBytes - network.store.copiedBytes;
    let [liveBefore, beganBytes] = [0, 0];
    const forward = (work: () => Began): Began[] =>
      agreed(ranks, () =>
        network.store.pass(
          [EMBEDDING, ...forwardOrder(segments)],
          () => traveling?.together(work) ?? group.together(work),
          traveling?.stays,
        ),
      );
    const found = forward(() => {
      for (let index = from; index < end; index++)
        microBatches.push(startMicroBatch(network, heldBatch(batches[index], group), index, beginning));
      // Graphs serve once and are made anew, from the beginning; with other methods there is a backward pass to the end.
      if (maxGradNorm > 0 && method.holdsBlocks) microBatches.forEach(save);
      liveBefore = live();
      beganBytes = sum(microBatches, ({ parts }) => streamBytesOf(parts));
      pass.forward(microBatches);
      return {
        counts: addCounts(microBatches.flatMap(({ batch, routing }) => (batch.isFill ? [] : [routing.counts()]))),
        observed: routerLosses?.observed ?? NOTHING_OBSERVED,
      };
    });
    const expertCounts = addCounts(found.map(({ counts }) => counts));
    routerLosses?.complete(
      expertCounts,
      found.map(({ observed }) => observed),
    );
    // The other losses are looked at behind the head; all are before the first update.
    if (Object.values(routerLosses?.values() ?? {}).some((loss) => loss !== null && !Number.isFinite(loss))) {
      throw new BadValuesError(
        "a loss of the router is not a finite number.",
        "The learning rate may be too high, or the weights damaged.",
      );
    }
    const endedBytes = sum(microBatches, ({ parts }) => streamBytesOf(parts));
    // What has come to live since before the first block, but for the streams themselves.
    const keptBytes = live() - liveBefore - (endedBytes - beganBytes);
    const stored = storedBytes(microBatches);

    let gradientScale = 1;
    let savedBytes = 0;
    if (maxGradNorm > 0) {
      if (!method.holdsBlocks) microBatches.forEach(save);
      savedBytes = sum(microBatches, ({ saved }) => streamBytesOf(saved));
      gradientScale = clipFactor(passBack(ended, new BlockUpdates(null, options, network)).gradNorm, maxGradNorm);
      microBatches.forEach(restore);
      solutions.length = 0;
      if (method.holdsBlocks) pass.forward(microBatches);
    }
    const rate = router?.correctionRate ?? 0;
    const also = rate > 0 ? correctingChoice(rate, expertCounts, network.trains) : undefined;
    const { gradientOfStreamBytes, ...figures } = passBack(
      ended,
      new BlockUpdates(states, { ...options, gradientScale, also }, network),
    );
    watch.look();
    const results = ranks.gather({ ...figures, solutions });
    checkAlike(ranks, step, results);
    return {
      ...figures,
      reconstructionError: results.some((each) => each.reconstructionError === null)
        ? null
        : Math.max(...results.map((each) => each.reconstructionError as number)),
      trainedTokens,
      streamBytes: endedBytes + gradientOfStreamBytes + savedBytes,
      keptBytes,
      ...stored,
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

const sum = <T>(items: T[], size: (item: T) => number): number => items.reduce((total, item) => total + size(item), 0);

function storedBytes(microBatches: MicroBatch[]): Pick<StepResult, "bitBytes" | "routingBytes" | "hostBytes"> {
  return {
    bitBytes: sum(microBatches, ({ parts }) => sum(parts, bitBytes)),
    routingBytes: sum(microBatches, ({ routing }) => routing.bytes),
    hostBytes: sum(microBatches, ({ parts }) => sum(parts, hostBytes)),
  };
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

function addCounts(maps: ReadonlyMap<number, number[]>[]): Map<number, number[]> {
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
