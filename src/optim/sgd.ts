// Stochastic gradient descent with momentum (torch.optim.SGD, dampening 0), and LOMO, which is the same without
// momentum (Lv et al., arXiv 2306.09782, equation 1: a parameter is updated as soon as its gradient exists):
//   b = momentum b + g;  w -= lr * decay * w;  w -= lr * b
// State: b in float32, 4 bytes per element; LOMO has none. Decay is decoupled as in LOMO's own code and in AdamW;
// torch's SGD adds it to the gradient instead. No decay of norms and biases.
import { add_, mulScalar_, sgd_ } from "../torch/ops.js";
import { defineOptimizer } from "./entry.js";
import { keptOf, type Optimizer, type StateLayout } from "./optimizer.js";
import { forTiles, range } from "./tiles.js";

export interface SgdSettings {
  momentum: number;
  weightDecay: number;
}

export const SGD = defineOptimizer({
  name: "sgd",
  stateBytes: "4",
  goodRates: [1e-3, 1e-2],
  rows: {
    sgd_momentum: {
      kind: "number",
      default: 0.9,
      above: 0,
      below: 1,
      about: "sgd: share of the sum of earlier gradients that each step keeps; for no momentum, use optimizer lomo",
    },
  },
  make: ({ sgd_momentum: momentum, weight_decay: weightDecay }) => sgd({ momentum, weightDecay }),
});

export const LOMO = defineOptimizer({
  name: "lomo",
  stateBytes: "0",
  goodRates: [1e-2, 1e-1],
  rows: {},
  isProposedForMemory: true,
  make: ({ weight_decay: weightDecay }) => lomo({ weightDecay }),
});

export function sgd({ momentum, weightDecay }: SgdSettings, name = "sgd"): Optimizer {
  return {
    name,
    rule: (parameter) => ({
      elementwise: true,
      layout: momentum > 0 ? { buffer: { shape: parameter.shape, dtype: "float32" } } : ({} as StateLayout),
      update: (weight, gradient, { buffer }, update) =>
        forTiles(gradient, (start, count) => {
          const g_N = range(gradient, start, count);
          const direction_N = momentum > 0 ? add_(mulScalar_(range(buffer, start, count), momentum), g_N) : g_N;
          weight.move(start, direction_N, keptOf(parameter, update, weightDecay), update.learningRate);
        }),
      kernel: (weight, gradient, { buffer }, update) => {
        const { gradientScale, learningRate } = update;
        const keep = keptOf(parameter, update, weightDecay);
        if (momentum > 0) sgd_(...weight.stored, buffer, gradient, gradientScale, momentum, keep, learningRate);
        else weight.move(0, gradient, keep, learningRate * gradientScale);
      },
    }),
  };
}

export const lomo = (settings: Omit<SgdSettings, "momentum">): Optimizer => sgd({ ...settings, momentum: 0 }, "lomo");
