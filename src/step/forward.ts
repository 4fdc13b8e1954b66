// The forward pass of a step: micro-batches begin and pass all blocks, then what their routers have seen is put
// together over all ranks. Micro-batches go into the caller's list as they begin; the caller frees them, also when this
// throws.
import { BadValuesError } from "../errors.js";
import { agreed } from "../parallel/agreed.js";
import { type Collectives, shareOf } from "../parallel/collectives.js";
import { sequenceGroup } from "../parallel/sequence-group.js";
import type { SizedBatch } from "../data/batches.js";
import type { Watch } from "../reversible/streams.js";
import { bitBytes, hostBytes } from "../reversible/methods/method.js";
import { EMBEDDING } from "../store/store.js";
import { ledger } from "../torch/memory.js";
import { heldBatch } from "../network/held-batch.js";
import { forwardOrder, type Network, type Segment } from "../network/network.js";
import type { BlockPass } from "./block-pass.js";
import { type Beginning, type MicroBatch, startMicroBatch, streamBytesOf } from "./micro-batch.js";
import { NOTHING_OBSERVED, type Observed, type RouterLosses } from "./router/losses.js";

/** What `passForward` needs besides the batches. */
export interface Passing {
  network: Network;
  segments: Segment[];
  pass: BlockPass;
  microBatches: MicroBatch[];
  /** How every micro-batch begins. */
  beginning: Omit<Beginning, "observer">;
  routerLosses: RouterLosses | null;
  watch: Watch;
  ranks: Collectives;
  /** How many ranks hold each micro-batch together. */
  sequenceRanks: number;
  /** Called when all micro-batches have begun, before the first block. */
  begun: () => void;
}

/** Results of a forward pass. Bytes are this rank's. */
export interface Forward {
  /** Tokens per expert, by layer, on all ranks. */
  expertCounts: Map<number, number[]>;
  /** Bytes of the streams behind the last block, and of kept streams from which others are rebuilt. */
  streamBytes: number;
  /** What the method kept for the backward pass; stored bits and routing are part of it. */
  keptBytes: number;
  bitBytes: number;
  routingBytes: number;
  /** Bytes that wait in host memory. */
  hostBytes: number;
}

/** What every rank tells all others of its forward pass. */
interface Seen {
  counts: Map<number, number[]>;
  observed: Observed;
}

/**
 * Passes this rank's share of `batches` through all blocks. Errors: BadValuesError, on all ranks, where values are not
 * finite.
 */
export function passForward(batches: readonly SizedBatch[], passing: Passing): Forward {
  const { network, segments, pass, microBatches, beginning, routerLosses, ranks } = passing;
  const group = sequenceGroup(ranks, passing.sequenceRanks);
  const [from, end] = shareOf(group.among, batches.length);
  const live = (): number => ledger(network.device).liveBytes - network.store.copiedBytes;
  const streamBytes = (): number => sum(microBatches, ({ parts }) => streamBytesOf(parts));
  let before = { liveBytes: 0, streamBytes: 0 };
  const throughBlocks = (): Seen => {
    for (let index = from; index < end; index++) {
      const batch = heldBatch(batches[index], group);
      microBatches.push(startMicroBatch(network, batch, index, { ...beginning, observer: routerLosses }));
    }
    passing.begun();
    before = { liveBytes: live(), streamBytes: streamBytes() };
    pass.forward(microBatches);
    // Otherwise the look waits until the loss is known, which a GPU is waited for anyway; ranks agree before they go on.
    if (ranks.world > 1) passing.watch.look();
    return {
      counts: addCounts(microBatches.flatMap(({ batch, routing }) => (batch.isFill ? [] : [routing.counts()]))),
      observed: routerLosses?.observed ?? NOTHING_OBSERVED,
    };
  };
  const { traveling } = network;
  const seen = agreed(ranks, () =>
    network.store.pass(
      [EMBEDDING, ...forwardOrder(segments)],
      () => traveling?.together(throughBlocks) ?? group.together(throughBlocks),
      traveling?.stays,
    ),
  );
  const expertCounts = addCounts(seen.map(({ counts }) => counts));
  completeLosses(routerLosses, expertCounts, seen);
  const ended = streamBytes();
  return {
    expertCounts,
    streamBytes: ended,
    // What is alive now and was not before the first block, without the streams themselves.
    keptBytes: live() - before.liveBytes - (ended - before.streamBytes),
    bitBytes: sum(microBatches, ({ parts }) => sum(parts, bitBytes)),
    routingBytes: sum(microBatches, ({ routing }) => routing.bytes),
    hostBytes: sum(microBatches, ({ parts }) => sum(parts, hostBytes)),
  };
}

/**
 * Checks the router's losses for finite values here; other losses are checked behind the head. No weight has changed
 * yet.
 */
function completeLosses(losses: RouterLosses | null, counts: Map<number, number[]>, seen: readonly Seen[]): void {
  if (losses === null) return;
  losses.complete(
    counts,
    seen.map(({ observed }) => observed),
  );
  if (Object.values(losses.values()).every((loss) => loss === null || Number.isFinite(loss))) return;
  throw new BadValuesError(
    "a loss of the router is not a finite number.",
    "The learning rate may be too high, or the weights damaged.",
  );
}

function addCounts(maps: ReadonlyMap<number, number[]>[]): Map<number, number[]> {
  const totals = new Map<number, number[]>();
  for (const map of maps)
    for (const [layer, counts] of map) {
      const others = totals.get(layer);
      totals.set(
        layer,
        counts.map((count, expert) => count + (others?.[expert] ?? 0)),
      );
    }
  return totals;
}

const sum = <T>(items: T[], size: (item: T) => number): number => items.reduce((total, item) => total + size(item), 0);
