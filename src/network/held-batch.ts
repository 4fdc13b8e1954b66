// A micro-batch as a rank has it: all of it, or, where several ranks hold it together, a run of its tokens beside the documents of the whole.
import { NO_LABEL, type SizedBatch } from "../data/batches.js";
import type { Spread } from "../model/context.js";
import type { SequenceGroup } from "../parallel/sequence-group.js";

/** Tokens, labels and positions are of the part that is here, `segments` of the whole. */
export interface HeldBatch extends SizedBatch {
  spread?: Spread;
}

/** What of it is this rank's. */
export function heldBatch(batch: SizedBatch, group: SequenceGroup): HeldBatch {
  if (group.size === 1) return batch;
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
  };
}
