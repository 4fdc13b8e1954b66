// A micro-batch as a rank has it: the whole, or, where several ranks hold it together, a run of its tokens.
import { NO_LABEL, type SizedBatch } from "../data/batches.js";
import type { Spread } from "../model/context.js";
import type { SequenceGroup } from "../parallel/sequence-group.js";

/** Tokens, labels and positions are those held here; `segments` are those of the whole micro-batch. */
export interface HeldBatch extends SizedBatch {
  spread?: Spread;
  /**
   * Whether this rank has only a filler token, because there are fewer tokens than ranks. Nothing counts it or learns
   * from it.
   */
  isFill?: boolean;
}

/**
 * This rank's part of a micro-batch. If tokens are fewer than ranks, documents of one filler token without a label make
 * up for it.
 */
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
    // A batch of sizes alone has no labels; then every token counts as trained.
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
