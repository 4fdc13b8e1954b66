// A micro-batch as a rank has it: all of it, or, where several ranks hold it together, a run of its tokens beside the documents of the whole.
import { NO_LABEL, type SizedBatch } from "../data/batches.js";
import type { Spread } from "../model/context.js";
import type { SequenceGroup } from "../parallel/sequence-group.js";

/** Tokens, labels and positions are of the part that is here, `segments` of the whole. */
export interface HeldBatch extends SizedBatch {
  spread?: Spread;
  /** Whether what is here stands for no token, for there are fewer than ranks: nothing counts it, and nothing is learnt of it. */
  isFill?: boolean;
}

/** What of it is this rank's. Where it has fewer tokens than there are ranks, each has one: the last are documents of one token, and no label. */
export function heldBatch(whole: SizedBatch, group: SequenceGroup): HeldBatch {
  if (group.size === 1) return whole;
  const batch = filledUp(whole, group.size);
  const tokens = group.share(batch.tokens.length);
  const { place, exchange, each } = group;
  const first = tokens.slice(0, place).reduce((sum, count) => sum + count, 0);
  const part = (values: ArrayLike<number>): number[] =>
    Array.from({ length: tokens[place] }, (_, i) => values[first + i]);
  const labels = part(batch.labels);
  return {
    tokens: part(batch.tokens),
    labels,
    positions: part(batch.positions),
    segments: batch.segments,
    // Of a batch of sizes alone there are no labels to look at: then all count.
    trainedTokens: labels.filter((label) => label !== NO_LABEL).length,
    spread: { tokens, place, first, exchange, each },
    isFill: first >= whole.tokens.length,
  };
}

function filledUp(batch: SizedBatch, least: number): SizedBatch {
  const missing = least - batch.tokens.length;
  if (missing <= 0) return batch;
  const filled = (values: ArrayLike<number>, value: number): number[] => [
    ...Array.from(values),
    ...new Array<number>(missing).fill(value),
  ];
  return {
    tokens: filled(batch.tokens, 0),
    labels: filled(batch.labels, NO_LABEL),
    positions: filled(batch.positions, 0),
    segments: filled(batch.segments, 1),
    trainedTokens: batch.trainedTokens,
  };
}
