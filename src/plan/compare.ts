// Every method on the same work: the ordinary network with what others keep, and the reversible couplings.
import { formatNumber } from "../format.js";
import { resolveSettings, type TrainSettings } from "../train/settings/settings.js";
import type { SettingRow, SettingValue } from "../settings/table.js";
import { type Plan, planStep } from "./plan.js";
import { PLANNED_ROWS, WAY_ROWS } from "./settings.js";
import type { Geometry } from "./shadow-step.js";

type Way = Pick<TrainSettings, "method" | "coupling"> & { gamma?: number };

const WAYS: Way[] = [
  { method: "store", coupling: "ordinary" },
  { method: "checkpoint", coupling: "ordinary" },
  { method: "checkpoint-offload", coupling: "ordinary" },
  { method: "reversible", coupling: "momentum", gamma: -1 / 256 },
  { method: "reversible", coupling: "momentum", gamma: -0.0625 },
  { method: "reversible", coupling: "momentum", gamma: -1 },
  { method: "reversible", coupling: "bdia", gamma: 0.0625 },
  { method: "reversible", coupling: "additive" },
  { method: "reversible", coupling: "revffn" },
];

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
      (method !== "checkpoint-offload" || settings.device !== "cpu") &&
      // It holds the weights of every block.
      (method !== "store" || settings.parameters === "device"),
  );
  return ways.map((way) => {
    // Its graphs make every gradient of a block at once.
    const rest: Record<string, SettingValue> = way.method === "store" ? { expert_group_size: 0 } : {};
    return {
      name: `${way.method}, ${way.coupling}${way.gamma === undefined ? "" : ` ${formatNumber(way.gamma)}`}`,
      plan: planStep(
        resolveSettings({ flags: { ...common, ...way, ...rest, train_file: "-", output_dir: "-" } }).settings,
        geometry,
      ),
    };
  });
}
