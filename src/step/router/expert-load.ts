// How evenly tokens spread over experts, from the counts of a step; and a way to even it without a loss, as DeepSeek-V3
// does (arXiv 2408.15664, algorithm 1; arXiv 2412.19437, section 2.1.2): by a fixed rate, an expert's correction falls
// if it got more tokens than the mean of its layer, and rises if it got fewer. No gradient has a part in it.
import type { ExpertLoad } from "../../metrics/record.js";
import type { Parameters, Trains } from "../../model/model.js";
import { CHOICE_CORRECTION } from "../../model/routing.js";
import type { Change } from "../../store/store.js";
import { add_ } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, fromArray, numel, shape } from "../../torch/tensor.js";

/**
 * For each sparse layer: busiest expert over mean, entropy of the shares in nats, number of experts without a token.
 */
export function expertLoad(counts: Map<number, number[]>): ExpertLoad[] {
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([layer, tokens]) => {
      const total = tokens.reduce((sum, count) => sum + count, 0);
      const entropy = -tokens.reduce(
        (sum, count) => (count === 0 ? sum : sum + (count / total) * Math.log(count / total)),
        0,
      );
      return {
        layer,
        maxOverMean: (Math.max(...tokens) * tokens.length) / total,
        entropy,
        dead: tokens.filter((count) => count === 0).length,
      };
    });
}

/**
 * The change of a block's correction, if it has one that is trained: correction_e += rate sign(mean - tokens_e).
 * `counts` are the tokens of the step sent to each expert, by layer.
 */
export const correctingChoice =
  (rate: number, counts: ReadonlyMap<number, readonly number[]>, trains: Trains = () => true) =>
  (layer: number, parameters: Parameters, change: Change): void => {
    const tokens = counts.get(layer);
    const correction = parameters[CHOICE_CORRECTION];
    if (tokens === undefined || correction === undefined || !trains(layer, CHOICE_CORRECTION)) return;
    // Another rank holds it.
    if (numel(correction) === 0) return;
    const mean = tokens.reduce((sum, count) => sum + count, 0) / tokens.length;
    const moves = tokens.map((count) => rate * Math.sign(mean - count));
    scope(() =>
      change({ correction }, (own) => {
        add_(own.correction, fromArray(moves, shape(correction), "float32", device(own.correction)));
      }),
    );
  };
