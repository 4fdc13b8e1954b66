// The phases of a run, one after the other. Steps of a phase share what is trained, what the loss is, and one course of
// the learning rate. Each phase begins with optimizer states of zero. A run has one phase unless settings ask for more.
import { UserError } from "../errors.js";
import type { Model, Trains } from "../model/model.js";
import { learningRateAt } from "../optim/schedule.js";
import { routerNames } from "../network/network.js";
import { frozenBy } from "./frozen.js";
import type { TrainSettings } from "./settings/settings.js";

export interface Phase {
  /**
   * adapters: only adapters are trained; distillation: the loss is the divergence from a teacher; full: what the
   * settings say, with labels.
   */
  name: "adapters" | "distillation" | "full";
  /** From 1. */
  firstStep: number;
  lastStep: number;
  peakLearningRate: number;
}

/** The phases of `totalSteps` steps, in order; those without steps are left out. */
export function phasesOf(settings: TrainSettings, totalSteps: number): Phase[] {
  const { adapter_steps: adapters, distill_steps: distillation, learning_rate: rate } = settings;
  if (adapters + distillation > totalSteps) {
    const names = [...(adapters > 0 ? ["adapter_steps"] : []), ...(distillation > 0 ? ["distill_steps"] : [])].join(
      " and ",
    );
    throw new UserError(
      `${names}: ${adapters + distillation} of a run of ${totalSteps} steps (expected at most ${totalSteps}). Set fewer, or a larger max_steps or num_train_epochs.`,
    );
  }
  const plan: [Phase["name"], number, number][] = [
    ["adapters", adapters, settings.adapter_learning_rate || rate],
    ["distillation", distillation, settings.distill_learning_rate || rate],
    ["full", totalSteps - adapters - distillation, rate],
  ];
  let done = 0;
  return plan
    .map(([name, steps, peakLearningRate]): Phase => {
      const firstStep = done + 1;
      done += steps;
      return { name, firstStep, lastStep: done, peakLearningRate };
    })
    .filter(({ firstStep, lastStep }) => lastStep >= firstStep);
}

/** The phase of a step; step 0 is in the first. */
export const phaseAt = (phases: readonly Phase[], step: number): Phase =>
  phases.find(({ lastStep }) => lastStep >= step) ?? phases[phases.length - 1];

/** Each phase has its own warm-up and decay, by the same settings. */
export function learningRateIn(
  { firstStep, lastStep, peakLearningRate }: Phase,
  step: number,
  settings: TrainSettings,
): number {
  const totalSteps = lastStep - firstStep + 1;
  return learningRateAt(step - firstStep + 1, {
    type: settings.lr_scheduler_type,
    peak: peakLearningRate,
    warmupSteps: settings.warmup_steps || Math.ceil(settings.warmup_ratio * totalSteps),
    totalSteps,
    minRatio: settings.min_lr_ratio,
    decayRatio: settings.decay_ratio,
  });
}

/** Which parameters of a model a phase trains. */
export function trainsOf({ name: phase }: Phase, { freeze, freeze_router }: TrainSettings, model: Model): Trains {
  // Records of earlier versions have no setting `freeze`.
  const isFrozen = frozenBy(freeze ?? [], model);
  if (phase === "adapters") {
    const adapters = adapterNames(model);
    return (layer, name) => layer >= 0 && adapters.has(name) && !isFrozen(layer, name);
  }
  const routers = freeze_router ? routerNames(model) : new Set<string>();
  return (layer, name) => (layer < 0 || !routers.has(name)) && !isFrozen(layer, name);
}

function adapterNames({ architecture }: Model): ReadonlySet<string> {
  return new Set(architecture.layers.flatMap(({ adapters = [] }) => adapters.map(({ name }) => name)));
}
