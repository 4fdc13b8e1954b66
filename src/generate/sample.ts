// The next token from logits: the likeliest, or a draw from a softmax that may be cut to its likeliest tokens. Pure: a
// draw depends on the logits, the seed and the position alone, on every machine and device.
import { seededGenerator } from "../data/shuffle.js";
import { UserError } from "../errors.js";

export interface Sampling {
  /** Divides the logits; 0 always takes the likeliest token. */
  temperature: number;
  /** Only this many of the likeliest tokens; 0: all. */
  topK: number;
  /** Only the fewest likeliest tokens whose probabilities sum to at least this; 1: all. */
  topP: number;
  seed: number;
}

/**
 * Draws from softmax(logits / temperature), cut to the top k, renormalised, then cut to the top p (nucleus sampling,
 * arXiv 1904.09751). Of equal logits, the lower id counts as likelier. Errors: UserError when a logit is NaN or
 * infinite.
 */
export function pickToken(logits: ArrayLike<number>, sampling: Sampling, position: number): number {
  const { temperature, topK, topP, seed } = sampling;
  const best = likeliest(logits);
  if (temperature === 0) return best;
  const weights = new Float64Array(logits.length);
  for (let id = 0; id < weights.length; id++) weights[id] = Math.exp((logits[id] - logits[best]) / temperature);
  let ids = idsOfAtLeast(weights, 0);
  if (topK > 0 && topK < ids.length) ids = topKIds(weights, topK);
  if (topP < 1) ids = topPIds(weights, ids, topP);
  return draw(weights, ids, uniform(seed, position));
}

function likeliest(logits: ArrayLike<number>): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] > logits[best]) best = id;
    if (Number.isNaN(logits[id])) throw notFinite(id, logits[id]);
  }
  if (!Number.isFinite(logits[best])) throw notFinite(best, logits[best]);
  return best;
}

// Sorting all ids by weight would take most of a token's time, since a vocabulary has 150,000. So each cut first uses a
// bound on the weight to drop ids that cannot belong to it.

function topKIds(weights: Float64Array, topK: number): Int32Array {
  const least = weights.slice().sort()[weights.length - topK];
  return byWeight(idsOfAtLeast(weights, least), weights).subarray(0, topK);
}

function topPIds(weights: Float64Array, ids: Int32Array, topP: number): Int32Array {
  const total = sumOf(weights, ids);
  // All ids with weights below this bound have less than 1 - topP together, so the others reach topP without them.
  const least = ((1 - topP) * total) / ids.length;
  const kept = byWeight(
    ids.filter((id) => weights[id] >= least),
    weights,
  );
  let count = 0;
  for (let reached = 0; count < kept.length && reached < topP * total; count++) reached += weights[kept[count]];
  return kept.subarray(0, count);
}

function idsOfAtLeast(weights: Float64Array, least: number): Int32Array {
  const ids = new Int32Array(weights.length);
  let count = 0;
  for (let id = 0; id < weights.length; id++) if (weights[id] >= least) ids[count++] = id;
  return ids.subarray(0, count);
}

/** Sorts in place, the likeliest first. */
const byWeight = (ids: Int32Array, weights: Float64Array): Int32Array =>
  ids.sort((a, b) => weights[b] - weights[a] || a - b);

/** The id whose part of the summed weights contains the point `share` in [0, 1). */
function draw(weights: Float64Array, ids: Int32Array, share: number): number {
  let left = share * sumOf(weights, ids);
  let last = ids[0];
  for (let i = 0; i < ids.length; i++) {
    if (weights[ids[i]] === 0) continue;
    last = ids[i];
    left -= weights[last];
    if (left < 0) return last;
  }
  // Reached only if rounding leaves a rest.
  return last;
}

function sumOf(weights: Float64Array, ids: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < ids.length; i++) sum += weights[ids[i]];
  return sum;
}

/** 53 random bits as a number in [0, 1). */
function uniform(seed: number, position: number): number {
  const next = seededGenerator(seed, position);
  return ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

function notFinite(id: number, logit: number): UserError {
  return new UserError(
    `logits: that of token ${id} is ${logit} (expected finite numbers). ` +
      "The checkpoint may be broken, or compute_dtype too narrow for it.",
  );
}
