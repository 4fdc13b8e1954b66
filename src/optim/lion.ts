// Lion (Chen et al., arXiv 2302.06675, algorithm 2; lion-pytorch): every element moves by the learning rate, in the
// direction of the sign of a mean of gradients. This mean gives the newest gradient more weight than the mean that is
// kept does.
//   w -= lr * decay * w;  w -= lr * sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g
// State: m in float32, 4 bytes per element. No decay of norms and biases. An element whose gradients were all zero
// stays.
import { add_, lion_, mulScalar, mulScalar_, sign_ } from "../torch/ops.js";
import { defineOptimizer } from "./entry.js";
import { keptOf, type Optimizer } from "./optimizer.js";
import { forTiles, range } from "./tiles.js";

export const LION = defineOptimizer({
  name: "lion",
  stateBytes: "4",
  // The paper's advice: a third to a tenth of AdamW's.
  goodRates: [2e-6, 5e-6],
  rows: {
    lion_beta1: {
      kind: "number",
      default: 0.9,
      min: 0,
      below: 1,
      about: "lion: weight of the kept mean of gradients, against the new gradient, in the direction of a step",
    },
    lion_beta2: {
      kind: "number",
      default: 0.99,
      min: 0,
      below: 1,
      about: "lion: decay rate of the kept mean of gradients",
    },
  },
  ignoresGradientSize: true,
  make: (settings) =>
    lion({ beta1: settings.lion_beta1, beta2: settings.lion_beta2, weightDecay: settings.weight_decay }),
});

export interface LionSettings {
  beta1: number;
  beta2: number;
  weightDecay: number;
}

export function lion({ beta1, beta2, weightDecay }: LionSettings): Optimizer {
  return {
    name: "lion",
    rule: (parameter) => ({
      elementwise: true,
      layout: { m: { shape: parameter.shape, dtype: "float32" } },
      update: (weight, gradient, { m }, update) =>
        forTiles(gradient, (start, count) => {
          const [g_N, m_N] = [range(gradient, start, count), range(m, start, count)];
          const direction_N = sign_(add_(mulScalar(m_N, beta1), g_N, 1 - beta1));
          add_(mulScalar_(m_N, beta2), g_N, 1 - beta2);
          weight.move(start, direction_N, keptOf(parameter, update, weightDecay), update.learningRate);
        }),
      kernel: ({ stored }, gradient, { m }, update) => {
        const { gradientScale, learningRate } = update;
        const keep = keptOf(parameter, update, weightDecay);
        lion_(...stored, m, gradient, gradientScale, beta1, beta2, keep, learningRate);
      },
    }),
  };
}
