// AdaLomo (Lv et al., arXiv 2310.10195, algorithm 1; lomo_optim.AdaLomo): LOMO with a factored second moment and
// grouped update normalisation, u / max(1, rms(u)) * max(1e-3, rms(w)) for each matrix. This is exactly Adafactor's
// update with a learning rate relative to the weights. The paper adds that it is applied as soon as a gradient exists;
// here every optimizer is. The decay 1 - t^-0.8 is that of its code (the paper writes a constant). Its code decays
// norms, too; no optimizer here does. Equations, floors and bytes are in factored.ts.
import { defineOptimizer } from "./entry.js";
import { FACTORED_ROWS, factored, factoredSettings, type FactoredSettings } from "./factored.js";
import type { Optimizer } from "./optimizer.js";

export const ADALOMO = defineOptimizer({
  name: "adalomo",
  stateBytes: "below 0.05",
  goodRates: [5e-4, 1e-3],
  rows: FACTORED_ROWS,
  ignoresGradientSize: true,
  make: (settings) => adalomo(factoredSettings(settings)),
});

export const adalomo = (settings: Omit<FactoredSettings, "scaleParameter">): Optimizer =>
  factored("adalomo", { ...settings, scaleParameter: true });
