// AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), state in float32, torch.optim.AdamW's order of operations:
//   w -= lr * decay * w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
// Works through tiles of a few megabytes, which stay in the cache and bound the workspace. Parameters in bfloat16 are
// updated in float32 and rounded stochastically.
import { addScalar_, addcdiv_, addcmul_, cast, lerp_, mulScalar_, narrow, sqrt, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { device, dtype, numel, shape, zeros, type Tensor } from "../torch/tensor.js";
import { roundStochastically } from "./rounding.js";
import type { Optimizer } from "./optimizer.js";

const TILE_ELEMENTS = 1 << 20;

export interface AdamWSettings {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

export function adamw({ beta1, beta2, epsilon, weightDecay }: AdamWSettings): Optimizer {
  return {
    name: "adamw",
    init: (parameter) => ({
      m: zeros(shape(parameter), "float32", device(parameter)),
      v: zeros(shape(parameter), "float32", device(parameter)),
    }),
    stateBytes: (elements) => 8 * elements,
    update: (parameter, gradient, state, { step, learningRate, gradientScale, decay }) => {
      const elements = numel(parameter);
      const correction1 = 1 - beta1 ** step;
      const correction2 = 1 - beta2 ** step;
      const narrowType = dtype(parameter) === "bfloat16";
      for (let start = 0; start < elements; start += TILE_ELEMENTS) {
        scope(() => {
          const tile = (t: Tensor): Tensor => narrow(view(t, [elements]), 0, start, Math.min(TILE_ELEMENTS, elements - start));
          const stored = tile(parameter);
          const w = narrowType ? cast(stored, "float32") : stored;
          const g = tile(gradient);
          const m = tile(state.m);
          const v = tile(state.v);
          if (gradientScale !== 1) mulScalar_(g, gradientScale);
          if (decay && weightDecay > 0) mulScalar_(w, 1 - learningRate * weightDecay);
          lerp_(m, g, 1 - beta1);
          addcmul_(mulScalar_(v, beta2), g, g, 1 - beta2);
          const denominator = addScalar_(mulScalar_(sqrt(v), 1 / Math.sqrt(correction2)), epsilon);
          addcdiv_(w, m, denominator, -learningRate / correction1);
          if (narrowType) roundStochastically(w, stored);
        });
      }
    },
  };
}
