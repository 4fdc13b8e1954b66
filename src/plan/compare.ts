// Every method on the same work: the ordinary network with what others keep, and the reversible couplings.
import { resolveSettings, type TrainSettings } from "../train/settings.js";
import { type Plan, planStep } from "./plan.js";
import type { Geometry } from "./shadow-step.js";

type Way = Pick<TrainSettings, "method" | "coupling"> & { gamma?: number };

const WAYS: Way[] = [
  { method: "store", coupling: "ordinary" },
  { method: "checkpoint", coupling: "ordinary" },
  { method: "reversible", coupling: "momentum", gamma: 0.25 },
  { method: "reversible", coupling: "momentum", gamma: -1 },
  { method: "reversible", coupling: "bdia", gamma: 0.25 },
  { method: "reversible", coupling: "additive" },
  { method: "reversible", coupling: "revffn" },
];

export interface Compared {
  name: string;
  plan: Plan;
}

/** Plans of the same work; what only some couplings have is left at its default. */
export function comparePlans(settings: TrainSettings, geometry: Geometry): Compared[] {
  const shared = [
    "model",
    "max_length",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weights_dtype",
    "weights_correction",
  ];
  const also = ["compute_dtype", "device", "tile_tokens", "loss_tile_tokens", "optimizer", "freeze_router"];
  const common = Object.fromEntries(Object.entries(settings).filter(([name]) => [...shared, ...also].includes(name)));
  if (settings.optimizer === "galore_adamw") common.galore_rank = settings.galore_rank;
  const ways =
    settings.device === "cpu" ? WAYS : [WAYS[0], WAYS[1], { method: "checkpoint-offload", coupling: "ordinary" } as Way, ...WAYS.slice(2)];
  return ways.map((way) => ({
    name: `${way.method}, ${way.coupling}${way.gamma === undefined ? "" : ` ${way.gamma}`}`,
    plan: planStep(resolveSettings({ flags: { ...common, ...way, train_file: "-", output_dir: "-" } }).settings, geometry),
  }));
}
