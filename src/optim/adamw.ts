// AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), in torch.optim.AdamW's order of operations:
//   w -= lr * decay * w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
// State: m and v in float32, 8 bytes per element. No decay of norms and biases.
import { type AdamNumbers, adamw_, addScalar_, addcdiv_, addcmul_, lerp_, mulScalar_, sqrt } from "../torch/ops.js";
import type { SettingRows, SettingsOf } from "../settings/table.js";
import { numel, type Tensor } from "../torch/tensor.js";
import { defineOptimizer } from "./entry.js";
import { keptOf, type Optimizer, type ParameterFacts, type Rule, type ScaledUpdate, type Update } from "./optimizer.js";
import { forTiles, range } from "./tiles.js";
import type { Weight } from "./weights/weight.js";

export interface AdamWSettings {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/** Settings of every optimizer with AdamW's moments. */
export const ADAM_ROWS = {
  adam_beta1: {
    kind: "number",
    default: 0.9,
    min: 0,
    below: 1,
    about: "decay rate of Adam's first moment, the mean of gradients",
  },
  adam_beta2: {
    kind: "number",
    default: 0.95,
    min: 0,
    below: 1,
    about: "decay rate of Adam's second moment, the mean of squared gradients; transformers uses 0.999",
  },
  adam_epsilon: { kind: "number", default: 1e-8, above: 0, about: "added to the denominator of Adam's update" },
} as const satisfies SettingRows;

export const adamSettings = (settings: SettingsOf<typeof ADAM_ROWS> & { weight_decay: number }): AdamWSettings => ({
  beta1: settings.adam_beta1,
  beta2: settings.adam_beta2,
  epsilon: settings.adam_epsilon,
  weightDecay: settings.weight_decay,
});

export const ADAMW = defineOptimizer({
  name: "adamw",
  stateBytes: "8",
  goodRates: [1e-5, 2e-5],
  rows: ADAM_ROWS,
  make: (settings) => adamw(adamSettings(settings)),
});

export interface Moments {
  m: Tensor;
  v: Tensor;
}

export function adamw(settings: AdamWSettings): Optimizer {
  return { name: "adamw", rule: (parameter) => adamwRule(settings, parameter) };
}

export function adamwRule(settings: AdamWSettings, parameter: ParameterFacts): Rule {
  const moment = { shape: parameter.shape, dtype: "float32" } as const;
  return {
    elementwise: true,
    layout: { m: moment, v: moment },
    update: (weight, gradient, { m, v }, update) =>
      forTiles(gradient, (start, count) => {
        const tile = (t: Tensor): Tensor => range(t, start, count);
        updateTile(settings, parameter, { weight, start }, tile(gradient), { m: tile(m), v: tile(v) }, update);
      }),
    kernel: ({ stored }, gradient, { m, v }, update) =>
      adamw_(...stored, m, v, gradient, ...adamNumbers(settings, parameter, update)),
  };
}

/** What AdamW's kernels are given beside tensors. */
export function adamNumbers(
  { beta1, beta2, epsilon, weightDecay }: AdamWSettings,
  parameter: ParameterFacts,
  update: ScaledUpdate,
): AdamNumbers {
  const { gradientScale, learningRate, step } = update;
  const [rate, scale] = [learningRate / (1 - beta1 ** step), 1 / Math.sqrt(1 - beta2 ** step)];
  return [gradientScale, beta1, beta2, epsilon, keptOf(parameter, update, weightDecay), rate, scale];
}

/** Updates the moments in place and returns the denominator of the update, sqrt(v / (1 - b2^t)) + eps. */
export function updateMoments(
  g: Tensor,
  { m, v }: Moments,
  { beta1, beta2, epsilon }: AdamWSettings,
  step: number,
): Tensor {
  lerp_(m, g, 1 - beta1);
  addcmul_(mulScalar_(v, beta2), g, g, 1 - beta2);
  return addScalar_(mulScalar_(sqrt(v), 1 / Math.sqrt(1 - beta2 ** step)), epsilon);
}

/** The whole update of one tile. Changes its weights and its `moments`, which are float32. */
export function updateTile(
  settings: AdamWSettings,
  parameter: ParameterFacts,
  { weight, start }: { weight: Weight; start: number },
  g_N: Tensor,
  moments: Moments,
  update: Update,
): void {
  const denominator_N = updateMoments(g_N, moments, settings, update.step);
  weight.edit(start, numel(g_N), (w_N) => {
    const keep = keptOf(parameter, update, settings.weightDecay);
    if (keep !== 1) mulScalar_(w_N, keep);
    addcdiv_(w_N, moments.m, denominator_N, -update.learningRate / (1 - settings.beta1 ** update.step));
  });
}
