// Whether the weights and optimizer states of a run are numbers still: one pass over all of them, for when something went wrong
// and before what is made lasts.
import { placedParameters } from "../model/model.js";
import { aminmax } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, item, type Tensor } from "../torch/tensor.js";
import type { Run } from "./prepare.js";

/** The first of each that holds what is not a finite number. */
export interface Damage {
  weight?: string;
  state?: string;
}

/** Null where all is well. */
export function findDamage({ network, states }: Pick<Run, "network" | "states">): Damage | null {
  const { architecture, config, outer, blocks } = network.model;
  const bad = placedParameters(architecture, config).find(({ layer, spec }) => !isSound((layer < 0 ? outer : blocks[layer])[spec.name]));
  const weight = bad && bad.prefix + bad.spec.name;
  const state = states.tensors().find(({ tensor }) => !isSound(tensor))?.name;
  return weight === undefined && state === undefined ? null : { weight, state };
}

export function describeDamage({ weight, state }: Damage): string {
  return [weight && `the weight ${weight}`, state && `the optimizer state ${state}`].filter(Boolean).join(" and ");
}

/** Whole numbers always are. */
const isSound = (tensor: Tensor): boolean => !/float/.test(dtype(tensor)) || scope(() => aminmax(tensor).map(item).every(Number.isFinite));
