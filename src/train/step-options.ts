// The options of a step, from settings; for runs, and for plans of them.
import { METHODS } from "../reversible/methods/registry.js";
import { learningRateIn, type Phase } from "./phases.js";
import type { TrainSettings } from "./settings/rows.js";
import type { StepOptions } from "../step/step.js";

export function stepOptions(settings: TrainSettings, phase: Phase, step: number): StepOptions {
  // Router losses, noise and corrections are there to move the router.
  const routerIsTrained = phase.name !== "adapters";
  return {
    method: METHODS[settings.method],
    step,
    optimizerStep: step - phase.firstStep + 1,
    learningRate: learningRateIn(phase, step, settings),
    maxGradNorm: settings.max_grad_norm,
    maxBlockGradNorm: settings.max_block_grad_norm,
    expertGroupSize: settings.expert_group_size,
    seed: settings.seed,
    sumOrder: settings.rank_sums,
    sequenceRanks: settings.sequence_ranks,
    router: {
      auxCoef: routerIsTrained ? settings.router_aux_loss_coef : 0,
      auxType: settings.router_aux_loss_type,
      zCoef: routerIsTrained ? settings.router_z_loss_coef : 0,
      jitterNoise: settings.router_jitter_noise,
      correctionRate: routerIsTrained ? settings.router_bias_update_rate : 0,
    },
  };
}
