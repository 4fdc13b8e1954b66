// How evenly tokens spread over experts, from the counts of a step.
import type { ExpertLoad } from "../metrics/record.js";

/** Per sparse layer: busiest over mean, entropy of the shares in nats, experts without a token. */
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
