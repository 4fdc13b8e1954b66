// What may be changed to take a step of given work on a machine: where weights and state lie, what is kept, which optimizer, tiles, groups of
// experts, and how many micro-batches its rows become; and whether a plan fits. What was asked for stays as it is.
import { UserError } from "../../errors.js";
import { hasExperts } from "../../model/architecture.js";
import { placedParameters, placedWeights, storedDtype } from "../../model/model.js";
import { ORDINARY } from "../../network/description.js";
import { elementsOf } from "../../optim/optimizer.js";
import { makeOptimizer } from "../../optim/registry.js";
import { DEFAULT_METHOD } from "../../reversible/methods/registry.js";
import type { SettingValue } from "../../settings/table.js";
import { plannedStateBytes } from "../../step/optimizer-states.js";
import { STORE_NAMES, STORES } from "../../store/registry.js";
import { isCpu } from "../../torch/device-name.js";
import { DTYPES } from "../../torch/types.js";
import { expertsShareState } from "../../train/prepare-network.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import type { Plan } from "../plan.js";
import type { Geometry } from "../shadow-step.js";
import type { Machine } from "./machine.js";

/** A change of settings. */
export type Change = Readonly<Record<string, SettingValue>>;
/** Settings of `train` with what was asked and a change of what was not. Errors: UserError where the two exclude each other. */
export type Resolve = (change: Change) => TrainSettings;

interface Choice {
  /** Of one quality. */
  changes: readonly Change[];
  quality: string;
}

const AS_ASKED: readonly Choice[] = [{ changes: [{}], quality: "" }];

/** Methods from the exact to the leanest. */
const METHODS: readonly Choice[] = [
  { changes: ["store", "checkpoint"].map((method) => ({ method, coupling: ORDINARY.coupling })), quality: "" },
  { changes: [{ method: DEFAULT_METHOD }], quality: "reversible: loss within 0.3 % of the ordinary network's" },
];

/** Optimizers from the best known to the leanest. */
const OPTIMIZERS: readonly Choice[] = [
  { changes: [{ optimizer: "adamw" }], quality: "" },
  { changes: [{ optimizer: "adamw8bit" }], quality: "moments in 8 bits" },
  { changes: [{ optimizer: "adafactor" }], quality: "no momentum" },
];

/** What needs less memory and costs little time, the mildest first. */
function leaner({ architecture }: Geometry): { [name: string]: number }[] {
  const tiles = { tile_tokens: 512, loss_tile_tokens: 256 };
  const group = Math.max(1, architecture.experts.count >> 3);
  return [{}, tiles, ...(hasExperts(architecture) ? [{ ...tiles, expert_group_size: group }] : [])];
}

/** Rows to a micro-batch, and how many of them make the step: as asked, or fewer at a time. */
function splits({ per_device_train_batch_size: rows, gradient_accumulation_steps: steps }: TrainSettings) {
  const divisors = Array.from({ length: rows }, (_, i) => rows - i).filter((each) => rows % each === 0);
  return divisors.map((each) => ({
    per_device_train_batch_size: each,
    gradient_accumulation_steps: (steps * rows) / each,
  }));
}

const SPLIT = { per_device_train_batch_size: 0, gradient_accumulation_steps: 0 };

export interface Space {
  stays(change: Change): boolean;
  /** Of one quality each, the best first. */
  choices: readonly Choice[];
  /** The nearest first. */
  stores: readonly Change[];
}

/** What may be changed where settings of the names `asked` stay. */
export function spaceOf(resolve: Resolve, machine: Machine, asked: ReadonlySet<string>): Space {
  const stays = (change: Change): boolean => Object.keys(change).every((name) => !asked.has(name));
  const device: Change = stays({ device: "" }) ? { device: machine.card === null ? "cpu" : "cuda" } : {};
  const onCpu = isCpu(resolve(device).device);
  const optimizers = stays({ optimizer: "" }) ? OPTIMIZERS : AS_ASKED;
  const methods = stays({ method: "", coupling: "", gamma: 0 }) ? METHODS : AS_ASKED;
  const choices = methods.flatMap((method) =>
    optimizers.map((optimizer) => ({
      changes: method.changes.flatMap((one) => optimizer.changes.map((other) => ({ ...device, ...one, ...other }))),
      quality: [optimizer.quality, method.quality].filter((each) => each !== "").join("; "),
    })),
  );
  const stores = STORE_NAMES.filter((name) => !STORES[name].shared && (!onCpu || !STORES[name].needsGpu));
  return {
    stays,
    choices,
    stores: stays({ parameters: "" }) ? stores.map((parameters) => ({ parameters })) : [{}],
  };
}

export interface Bytes {
  weightBytes: number;
  stateBytes: number;
}

/** One place for weights and state, one method and one optimizer: in what ways a step can be taken, and which plans of them fit. */
export interface Options {
  /** The mildest first. Empty where what was asked for excludes them, or where they are sure not to fit. */
  settings: readonly TrainSettings[];
  bytes: Bytes;
  /** Bytes of the device. */
  most: number;
  fits(plan: Plan): boolean;
}

export function optionsOf(resolve: Resolve, geometry: Geometry, machine: Machine, { stays }: Space): Options | null {
  const settings = possible(resolve);
  if (settings === null) return null;
  const bytes = storedBytesOf(settings, geometry);
  const most = machine.card?.bytes ?? machine.memoryBytes;
  const { lies } = STORES[settings.parameters];
  const all = bytes.weightBytes + bytes.stateBytes;
  // Sure not to fit: nothing has to be planned for that. The result needs room on the disk in any case.
  if (all > (lies === "device" ? most : lies === "memory" ? machine.memoryBytes : machine.diskBytes)) return null;
  if (bytes.weightBytes > machine.diskBytes) return null;
  const options = leaner(geometry).flatMap((each) => {
    const change = Object.fromEntries(Object.entries(each).filter(([name]) => stays({ [name]: 0 })));
    const changed = possible(() => resolve(change));
    if (changed === null || (change.expert_group_size && expertsShareState(changed, geometry.architecture))) return [];
    return (stays(SPLIT) ? splits(settings) : [{}]).map((split) => resolve({ ...change, ...split }));
  });
  const fits = ({ placed }: Plan): boolean =>
    placed.deviceBytes <= most &&
    (machine.card === null || placed.hostBytes <= machine.memoryBytes) &&
    placed.diskBytes + bytes.weightBytes <= machine.diskBytes;
  return { settings: options, bytes, most, fits };
}

/** The settings, unless what was asked for excludes them. */
export function possible(resolve: Resolve): TrainSettings | null {
  try {
    return resolve({});
  } catch (failure) {
    if (failure instanceof UserError) return null;
    throw failure;
  }
}

/** Of all weights, wherever they lie. */
export const storedWeightBytes = ({ architecture, dtypeOf }: Geometry): number =>
  placedParameters(architecture).reduce(
    (sum, each) => sum + elementsOf(each.spec.shape) * DTYPES[storedDtype(each, dtypeOf(each))],
    0,
  );

/** Of all weights and state. */
export function storedBytesOf(settings: TrainSettings, geometry: Geometry): Bytes {
  const { architecture, dtypeOf } = geometry;
  const [first] = placedWeights(architecture);
  const stateBytes = plannedStateBytes(makeOptimizer(settings, "float32"), architecture, dtypeOf(first), {
    weightsCorrection: settings.weights_correction === "8bit",
  });
  return { weightBytes: storedWeightBytes(geometry), stateBytes };
}
