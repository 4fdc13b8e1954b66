// Adafactor without first moment (Shazeer & Stern, arXiv 1804.04235), as transformers' Trainer runs it: the learning
// rate is the schedule's (`relative_step=False`). `scale_parameter`, which the paper has and the Trainer switches off,
// makes it relative to the weights. Equations, floors and bytes are in factored.ts.
import { defineOptimizer } from "./entry.js";
import { FACTORED_ROWS, factored, factoredSettings, type FactoredSettings } from "./factored.js";
import type { Optimizer } from "./optimizer.js";

export const ADAFACTOR = defineOptimizer({
  name: "adafactor",
  stateBytes: "below 0.05",
  goodRates: [1e-5, 2e-5],
  rows: {
    ...FACTORED_ROWS,
    adafactor_scale_parameter: {
      kind: "boolean",
      default: false,
      about: "adafactor: scale the learning rate by the root mean square of each matrix; then 1e-3 is a good one",
    },
  },
  ignoresGradientSize: true,
  isProposedForMemory: true,
  make: (settings) => adafactor({ ...factoredSettings(settings), scaleParameter: settings.adafactor_scale_parameter }),
});

export const adafactor = (settings: FactoredSettings): Optimizer => factored("adafactor", settings);
