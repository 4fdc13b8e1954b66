// Learning rate over the steps: a linear warm-up, then constant, linear or cosine decay to a share of the peak, or
// constant with cosine decay at the end.

export const SCHEDULES = ["cosine", "linear", "constant", "constant_with_warmup", "warmup_stable_decay"] as const;
export type ScheduleType = (typeof SCHEDULES)[number];

export interface Schedule {
  type: ScheduleType;
  peak: number;
  warmupSteps: number;
  totalSteps: number;
  /** The rate at the end as a share of the peak. */
  minRatio: number;
  /** The share of all steps, at their end, in which warmup_stable_decay falls. */
  decayRatio?: number;
}

/**
 * gamma at `step` (from 1). It is halved until it is `final`, in the last `share * totalSteps` steps, each value for
 * the same number of steps. With `final` 0 it does not change.
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

/** The learning rate at `step` (from 1). Warm-up reaches the peak at step `warmupSteps`. */
export function learningRateAt(step: number, schedule: Schedule): number {
  const { type, peak, warmupSteps, totalSteps, minRatio, decayRatio = 0.1 } = schedule;
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  if (type === "constant" || type === "constant_with_warmup") return peak;
  // Decay begins behind this step, and takes at least one step.
  const stable =
    type === "warmup_stable_decay" ? totalSteps - Math.max(1, Math.round(decayRatio * totalSteps)) : warmupSteps;
  const from = Math.max(warmupSteps, stable);
  // The final share would be reached one step after the last, so that with a share of 0 the last step still does
  // something.
  const progress = Math.min(1, Math.max(0, step - from) / (Math.max(0, totalSteps - from) + 1));
  const share = type === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return peak * (minRatio + (1 - minRatio) * share);
}
