// The plan of a run that is about to begin: its own weights and its own rows, of which it looks at those of the next steps.
import type { Batch } from "../data/batches.js";
import { readArchitecture } from "../families/registry.js";
import { dtype } from "../torch/tensor.js";
import type { Run } from "../train/prepare.js";
import { threadsFor } from "../train/ranks/prepare-ranks.js";
import { type Plan, planStep } from "./plan.js";
import type { Geometry } from "./shadow-step.js";

/** Steps that are looked at; with packing, one is as good as all. */
const AHEAD = 100;
/** Of which there may be many in a step. */
const MICRO_BATCHES_AHEAD = 10_000;
/** More micro-batches are planned as if all were as large as the largest. */
const FEW = 4;

export interface RunPlan {
  plan: Plan;
  geometry: Geometry;
}

export function planRun({ settings, source, state, data, startStep, totalSteps, ranks }: Run): RunPlan {
  const { model } = state.network;
  // Asked now: the engine that plans knows nothing of these tensors.
  const types = [model.outer, ...model.blocks].map((parameters) =>
    Object.fromEntries(Object.entries(parameters).map(([name, tensor]) => [name, dtype(tensor)])),
  );
  const geometry: Geometry = {
    architecture: readArchitecture(source.config, source.configPath),
    dtypeOf: ({ layer, spec }) => types[layer + 1][spec.name],
  };
  const from = data.state();
  let largest: Batch[] = [];
  const ahead = Math.min(
    AHEAD,
    totalSteps - startStep,
    Math.ceil(MICRO_BATCHES_AHEAD / settings.gradient_accumulation_steps),
  );
  for (let step = 0; step < Math.max(1, ahead); step++) {
    const batches = data.nextStep(settings.gradient_accumulation_steps).map(({ batch }) => batch);
    if (tokensOf(batches) > tokensOf(largest)) largest = batches;
  }
  data.restore(from);
  const longest = largest.reduce((most, batch) => (batch.tokens.length > most.tokens.length ? batch : most));
  const planned = largest.length > FEW ? largest.map(() => longest) : largest;
  const used = { ...settings, threads: threadsFor(ranks, settings) };
  return { plan: planStep(used, geometry, planned, ranks.world), geometry };
}

const tokensOf = (batches: Batch[]): number => batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
