// Adafactor without first moment (Shazeer & Stern, arXiv 1804.04235), as transformers' Trainer runs it: the learning rate
// is that of the schedule (`relative_step=False`); relative to the weights only when asked for (`scale_parameter`, which
// the paper has and the Trainer switches off). Equations, floors and bytes are in factored.ts.
import { factored, type FactoredSettings } from "./factored.js";
import type { Optimizer } from "./optimizer.js";

export const adafactor = (settings: FactoredSettings): Optimizer => factored("adafactor", settings);
