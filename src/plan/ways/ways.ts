// The ways in which a step of given work can be taken on a machine: where weights and state lie, what is kept, which optimizer, tiles,
// groups of experts, and how many micro-batches its rows become. What was asked for stays as it is. A way that gives up something has to be
// faster for it. The first is the best that takes at most half as long again as the fastest.
import { UserError } from "../../errors.js";
import { hasExperts } from "../../model/architecture.js";
import { placedParameters, placedWeights, storedDtype } from "../../model/model.js";
import { DTYPES } from "../../torch/types.js";
import { elementsOf } from "../../optim/optimizer.js";
import { makeOptimizer } from "../../optim/registry.js";
import { ORDINARY } from "../../network/description.js";
import { DEFAULT_METHOD } from "../../reversible/methods/registry.js";
import { STORE_NAMES, STORES } from "../../store/registry.js";
import { plannedStateBytes } from "../../step/optimizer-states.js";
import { expertsShareState } from "../../train/prepare-network.js";
import type { SettingValue } from "../../settings/table.js";
import { isCpu } from "../../torch/device-name.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import { withBlocksOnDevice } from "../choose.js";
import { type Plan, planStep } from "../plan.js";
import type { Geometry } from "../shadow-step.js";
import type { Machine } from "./machine.js";
import { stepSeconds } from "./speed.js";

export interface Way {
  plan: Plan;
  /** An estimate. */
  seconds: number;
  /** What it costs in quality, in words; nothing where it is ordinary fine-tuning with AdamW. */
  quality: string;
}

/** A change of settings. */
type Change = Readonly<Record<string, SettingValue>>;
interface Choice {
  change: Change;
  quality: string;
}

const AS_ASKED: readonly Choice[] = [{ change: {}, quality: "" }];

/** Methods from the exact to the leanest. */
const METHODS: readonly Choice[] = [
  { change: { method: "checkpoint", coupling: ORDINARY.coupling }, quality: "" },
  { change: { method: DEFAULT_METHOD }, quality: "reversible: loss within 0.3 % of the ordinary network's" },
];

/** Optimizers from the best known to the leanest. */
const OPTIMIZERS: readonly Choice[] = [
  { change: { optimizer: "adamw" }, quality: "" },
  { change: { optimizer: "adamw8bit" }, quality: "moments in 8 bits" },
  { change: { optimizer: "adafactor" }, quality: "no momentum" },
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

/** Settings of `train` with what was asked and a change of what was not. */
export type Resolve = (change: Change) => TrainSettings;

/** Those that fit; `asked` are names of settings that stay. Empty where nothing fits. */
export function findWays(resolve: Resolve, geometry: Geometry, machine: Machine, asked: ReadonlySet<string>): Way[] {
  const stays = (change: Change): boolean => Object.keys(change).every((name) => !asked.has(name));
  const device: Change = stays({ device: "" }) ? { device: machine.card === null ? "cpu" : "cuda" } : {};
  const onCpu = isCpu(resolve(device).device);
  const optimizers = stays({ optimizer: "" }) ? OPTIMIZERS : AS_ASKED;
  const methods = stays({ method: "", coupling: "", gamma: 0 }) ? METHODS : AS_ASKED;
  const stores: Change[] = stays({ parameters: "" })
    ? STORE_NAMES.filter((name) => !STORES[name].shared && (!onCpu || !STORES[name].needsGpu)).map((parameters) => ({
        parameters,
      }))
    : [{}];
  const found: Way[] = [];
  let fastest = Number.POSITIVE_INFINITY;
  for (const method of methods) {
    for (const optimizer of optimizers) {
      // The nearer weights lie, the faster: one store is enough.
      for (const store of stores) {
        const change = { ...device, ...optimizer.change, ...method.change, ...store };
        const way = wayOf((more) => resolve({ ...change, ...more }), geometry, machine, stays);
        if (way === null) continue;
        const quality = [optimizer.quality, method.quality].filter((each) => each !== "").join("; ");
        if (way.seconds * WORTH < fastest) found.push({ ...way, quality });
        fastest = Math.min(fastest, way.seconds);
        break;
      }
    }
  }
  // The best that takes not much longer than the fastest, then by time.
  const best = found.find(({ seconds }) => seconds <= LONGER * fastest);
  return found.sort((one, other) => Number(other === best) - Number(one === best) || one.seconds - other.seconds);
}

/** The first way for the longest rows, halved as often as it takes, where rows as long as asked have none; null where none has. */
export function shorterThatFits(
  resolve: Resolve,
  geometry: Geometry,
  machine: Machine,
  asked: ReadonlySet<string>,
): Way | null {
  for (let max_length = resolve({}).max_length >> 1; max_length >= SHORTEST; max_length >>= 1) {
    const [way] = findWays((change) => resolve({ ...change, max_length }), geometry, machine, asked);
    if (way) return way;
  }
  return null;
}

/** The mildest change with which these settings fit, with its time; null where none does. */
function wayOf(
  resolve: Resolve,
  geometry: Geometry,
  machine: Machine,
  stays: (change: Change) => boolean,
): Omit<Way, "quality"> | null {
  const settings = possible(resolve);
  if (settings === null) return null;
  const bytes = storedBytesOf(settings, geometry);
  const most = machine.card?.bytes ?? machine.memoryBytes;
  const { lies } = STORES[settings.parameters];
  const all = bytes.weightBytes + bytes.stateBytes;
  // Sure not to fit: nothing has to be planned for that. The result needs room on the disk in any case.
  if (all > (lies === "device" ? most : lies === "memory" ? machine.memoryBytes : machine.diskBytes)) return null;
  if (bytes.weightBytes > machine.diskBytes) return null;
  const fits = ({ placed }: Plan): boolean =>
    placed.deviceBytes <= most &&
    (machine.card === null || placed.hostBytes <= machine.memoryBytes) &&
    placed.diskBytes + bytes.weightBytes <= machine.diskBytes;
  const { architecture } = geometry;
  for (const each of leaner(geometry)) {
    const change = Object.fromEntries(Object.entries(each).filter(([name]) => stays({ [name]: 0 })));
    const changed = possible(() => resolve(change));
    if (changed === null || (change.expert_group_size && expertsShareState(changed, architecture))) continue;
    for (const split of stays(SPLIT) ? splits(settings) : [{}]) {
      let plan = planStep(resolve({ ...change, ...split }), geometry);
      if (!fits(plan)) continue;
      if (lies === "memory" && stays({ blocks_on_device: 0 })) plan = withBlocksOnDevice(plan, geometry, most);
      return { plan, seconds: stepSeconds(plan, architecture, bytes, machine) };
    }
  }
  return null;
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

/** How much faster a way has to be that gives up something. */
const WORTH = 1.1;
/** How much longer than the fastest the first may take. */
const LONGER = 1.5;
const SHORTEST = 128;
const SPLIT = { per_device_train_batch_size: 0, gradient_accumulation_steps: 0 };

/** Of all weights, wherever they lie. */
export const storedWeightBytes = ({ architecture, dtypeOf }: Geometry): number =>
  placedParameters(architecture).reduce(
    (sum, each) => sum + elementsOf(each.spec.shape) * DTYPES[storedDtype(each, dtypeOf(each))],
    0,
  );

/** Of all weights and state. */
export function storedBytesOf(settings: TrainSettings, geometry: Geometry) {
  const { architecture, dtypeOf } = geometry;
  const [first] = placedWeights(architecture);
  const stateBytes = plannedStateBytes(makeOptimizer(settings, "float32"), architecture, dtypeOf(first), {
    weightsCorrection: settings.weights_correction === "8bit",
  });
  return { weightBytes: storedWeightBytes(geometry), stateBytes };
}
