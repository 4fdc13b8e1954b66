// Every method on the same work: the ordinary network with what others keep, and the reversible couplings.
import { formatNumber } from "../format.js";
import { ORDINARY } from "../network/description.js";
import { COMPARED_COUPLINGS } from "../reversible/couplings/registry.js";
import { COMPARED_METHODS, METHODS } from "../reversible/methods/registry.js";
import { resolveSettings, type TrainSettings } from "../train/settings/settings.js";
import type { SettingRow, SettingValue } from "../settings/table.js";
import { STORES } from "../store/registry.js";
import { hasAllOnDevice } from "../store/store.js";
import { type Plan, planStep } from "./plan.js";
import { PLANNED_ROWS, WAY_ROWS } from "./settings.js";
import type { Geometry } from "./shadow-step.js";
import { isCpu } from "../torch/device.js";

type Way = Pick<TrainSettings, "method" | "coupling"> & { gamma?: number };

const WAYS: Way[] = COMPARED_METHODS.flatMap((method): Way[] =>
  METHODS[method].rebuilds
    ? COMPARED_COUPLINGS.map((each) => ({ method, ...each }))
    : [{ method, coupling: ORDINARY.coupling }],
);

export interface Compared {
  name: string;
  plan: Plan;
}

/** Plans of the same work, with all that was asked for but the way itself. */
export function comparePlans(settings: TrainSettings, geometry: Geometry): Compared[] {
  const settingOf = (name: string): SettingValue => settings[name as keyof TrainSettings];
  const asked = Object.entries<SettingRow>(PLANNED_ROWS).filter(
    ([name, row]) => !WAY_ROWS.includes(name) && settingOf(name) !== row.default,
  );
  const common = Object.fromEntries(asked.map(([name]) => [name, settingOf(name)]));
  const ways = WAYS.filter(
    ({ method }) =>
      (method !== "checkpoint-offload" || !isCpu(settings.device)) &&
      // It holds the weights of every block.
      (!METHODS[method].holdsBlocks || hasAllOnDevice(STORES[settings.parameters])),
  );
  return ways.map((way) => {
    // Its graphs make every gradient of a block at once.
    const rest: Record<string, SettingValue> = METHODS[way.method].holdsBlocks ? { expert_group_size: 0 } : {};
    return {
      name: `${way.method}, ${way.coupling}${way.gamma === undefined ? "" : ` ${formatNumber(way.gamma)}`}`,
      plan: planStep(
        resolveSettings({ flags: { ...common, ...way, ...rest, train_file: "-", output_dir: "-" } }).settings,
        geometry,
      ),
    };
  });
}
