// Whether all weights and optimizer states of a run are still finite: one pass over all of them, when something went
// wrong and before something is saved.
import { notFinite } from "../../checkpoint/finite.js";
import { placedParameters } from "../../model/model.js";
import type { Run } from "../prepare.js";

/** Names of the first weight and the first state that are not finite. */
export interface Damage {
  weight?: string;
  state?: string;
}

/** Null if all is finite on all ranks; else what the first rank with damage has found. */
export function findDamage(run: Run): Damage | null {
  const own = ownDamage(run);
  if (run.state.network.store.sharing === null) return own;
  return run.ranks.gather(own).find((found) => found !== null) ?? null;
}

function ownDamage({ state: { network }, states }: Run): Damage | null {
  const { architecture, outer, blocks } = network.model;
  const bad = placedParameters(architecture).find(({ layer, spec }) =>
    notFinite((layer < 0 ? outer : blocks[layer])[spec.name]),
  );
  const weight = bad && bad.prefix + bad.spec.name;
  const badState = states.tensors().find(({ tensor }) => notFinite(tensor))?.name;
  return weight === undefined && badState === undefined ? null : { weight, state: badState };
}

export function describeDamage({ weight, state }: Damage): string {
  return [weight && `the weight ${weight}`, state && `the optimizer state ${state}`].filter(Boolean).join(" and ");
}
