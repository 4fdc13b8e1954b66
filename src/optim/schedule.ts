// Learning rate over the steps: a linear warm-up, then constant, linear or cosine decay to a share of the peak.

export interface Schedule {
  type: "constant" | "linear" | "cosine";
  peak: number;
  warmupSteps: number;
  totalSteps: number;
  /** The rate at the end as a share of the peak. */
  minRatio: number;
}

/**
 * gamma at `step` (from 1): halved again and again until it is `final` for the last of the `share * totalSteps` steps at
 * the end, every value for as many steps. A `final` of 0 leaves it as it is.
 */
export function gammaAt(
  step: number,
  plan: { gamma: number; final: number; share: number; totalSteps: number },
): number {
  const { gamma, final, share, totalSteps } = plan;
  if (final === 0) return gamma;
  const halvings = Math.log2(gamma / final);
  const done = Math.floor((halvings * (step - 1 - totalSteps * (1 - share))) / (totalSteps * share)) + 1;
  return gamma / 2 ** Math.min(halvings, Math.max(0, done));
}

/** The rate of step `step`, counted from 1. Warm-up ends with the peak at step `warmupSteps`. */
export function learningRateAt(step: number, { type, peak, warmupSteps, totalSteps, minRatio }: Schedule): number {
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  if (type === "constant") return peak;
  // The share is reached one step after the last, so that a share of 0 does not make the last step idle.
  const progress = Math.min(1, (step - warmupSteps) / (Math.max(0, totalSteps - warmupSteps) + 1));
  const share = type === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return peak * (minRatio + (1 - minRatio) * share);
}
