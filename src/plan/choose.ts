// The largest work that fits a given memory. The length asked for is kept and the micro-batch grows; where not even one row
// fits, the length shrinks; where nothing fits, it says by how much and what else would.
import { hasExperts } from "../model/architecture.js";
import { ORDINARY } from "../network/description.js";
import { OPTIMIZERS } from "../optim/registry.js";
import { DEFAULT_METHOD, METHODS } from "../reversible/methods/registry.js";
import { expertsShareState } from "../train/prepare-network.js";
import { STORE_NAMES, STORES } from "../store/registry.js";
import { hasAllOnDevice } from "../store/store.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { isCpu } from "../torch/device.js";
import { type Plan, planStep } from "./plan.js";
import type { Geometry } from "./shadow-step.js";

/** More rows to a micro-batch make products hardly faster. */
const MOST_ROWS = 256;
const LEAST_LENGTH = 64;

export interface Choice {
  plan: Plan;
  fits: boolean;
  /** What was changed of the settings asked for, for the command line. */
  flags: Partial<TrainSettings>;
}

const bytesOf = ({ placed }: Plan): number => placed.deviceBytes;

/** The choice for `memoryBytes` on the device; when nothing fits, the smallest plan there is. Blocks stay there in what room is left. */
export function largestThatFits(settings: TrainSettings, geometry: Geometry, memoryBytes: number): Choice {
  const choice = largestWork(settings, geometry, memoryBytes);
  if (!choice.fits || STORES[settings.parameters].lies !== "memory") return choice;
  const plan = withBlocksOnDevice(choice.plan, geometry, memoryBytes);
  return { ...choice, plan, flags: { ...choice.flags, blocks_on_device: plan.settings.blocks_on_device } };
}

/** The plan with as many more blocks on the device as fit there; for a store in main memory. */
export function withBlocksOnDevice(plan: Plan, geometry: Geometry, memoryBytes: number): Plan {
  const planOf = (blocks: number): Plan => planStep({ ...plan.settings, blocks_on_device: blocks }, geometry);
  const { blocks_on_device: asked } = plan.settings;
  const most = geometry.architecture.layers.length;
  return asked >= most ? plan : largest(asked, plan, most, planOf, memoryBytes).plan;
}

function largestWork(settings: TrainSettings, geometry: Geometry, memoryBytes: number): Choice {
  const rowsPlan = (rows: number): Plan => planStep({ ...settings, per_device_train_batch_size: rows }, geometry);
  const one = rowsPlan(1);
  if (bytesOf(one) <= memoryBytes) {
    const { value, plan } = largest(1, one, MOST_ROWS, rowsPlan, memoryBytes);
    return { plan, fits: true, flags: { per_device_train_batch_size: value, max_length: settings.max_length } };
  }
  const lengthPlan = (length: number): Plan =>
    planStep({ ...settings, per_device_train_batch_size: 1, max_length: length }, geometry);
  const least = Math.min(LEAST_LENGTH, settings.max_length);
  const shortest = lengthPlan(least);
  if (bytesOf(shortest) > memoryBytes) return { plan: shortest, fits: false, flags: {} };
  const unit = (count: number): Plan => lengthPlan(count * least);
  const { value, plan } = largest(1, shortest, Math.floor(settings.max_length / least), unit, memoryBytes);
  return { plan, fits: true, flags: { per_device_train_batch_size: 1, max_length: value * least } };
}

/**
 * The largest value up to `most` whose plan fits, given the first, which does. Bytes grow nearly along a line, so the next value
 * tried is where the line through the last two meets the limit.
 */
function largest(
  first: number,
  firstPlan: Plan,
  most: number,
  planOf: (value: number) => Plan,
  memoryBytes: number,
): { value: number; plan: Plan } {
  let [value, plan, above] = [first, firstPlan, most + 1];
  let [before, last] = [
    { value: 0, bytes: 0 },
    { value: first, bytes: bytesOf(firstPlan) },
  ];
  let guess = Math.max(1, 2 * first);
  while (above - value > 1) {
    const tried = Math.max(value + 1, Math.min(guess, above - 1));
    const made = planOf(tried);
    [before, last] = [last, { value: tried, bytes: bytesOf(made) }];
    if (last.bytes > memoryBytes) above = tried;
    else [value, plan] = [tried, made];
    const perUnit = (last.bytes - before.bytes) / (last.value - before.value);
    guess = perUnit > 0 ? Math.floor(last.value + (memoryBytes - last.bytes) / perUnit) : above - 1;
  }
  return { value, plan };
}

export interface WayOut {
  change: Partial<TrainSettings>;
  plan: Plan;
}

/** Changes that need less memory and leave the mathematics of a step alone as far as they can, the mildest first; those that fit. */
export function waysToFit(settings: TrainSettings, geometry: Geometry, memoryBytes: number): WayOut[] {
  const { per_device_train_batch_size: rows, gradient_accumulation_steps: steps } = settings;
  const tries: Partial<TrainSettings>[] = [];
  for (let fewer = rows; fewer > 1; ) {
    fewer = largestDivisorBelow(rows, fewer);
    tries.push({ per_device_train_batch_size: fewer, gradient_accumulation_steps: (steps * rows) / fewer });
  }
  const small = tries.at(-1) ?? {};
  const tiles = { ...small, tile_tokens: 512, loss_tile_tokens: 256 };
  const tiled = (change: Partial<TrainSettings>): void => {
    const asked = { ...settings, ...change };
    if (asked.expert_group_size > 0 && expertsShareState(asked, geometry.architecture)) return;
    tries.push({ ...tiles, ...change });
    // Fewer gradients, but rows in their place: less memory where a step has few tokens.
    const size = smallGroup(asked, geometry);
    if (size !== null) tries.push({ ...tiles, ...change, expert_group_size: size });
  };
  tiled({});
  for (let length = settings.max_length >> 1; length >= 128; length >>= 1) tries.push({ ...small, max_length: length });
  for (const { name, isProposedForMemory } of OPTIMIZERS)
    if (isProposedForMemory && name !== settings.optimizer) tiled({ optimizer: name });
  if (hasAllOnDevice(STORES[settings.parameters]) && !METHODS[settings.method].holdsBlocks) {
    for (const name of STORE_NAMES)
      if (STORES[name].lies !== "device" && !STORES[name].shared && (!isCpu(settings.device) || !STORES[name].needsGpu))
        tiled({ parameters: name });
  }
  if (!METHODS[settings.method].rebuilds && settings.coupling !== ORDINARY.coupling)
    tries.push({ method: DEFAULT_METHOD });
  const found: WayOut[] = [];
  for (const change of tries) {
    // More of what is enough already is no other way.
    if (
      found.some((way) =>
        Object.entries(way.change).every(([name, value]) => value === change[name as keyof TrainSettings]),
      )
    )
      continue;
    const plan = planStep({ ...settings, ...change }, geometry);
    if (bytesOf(plan) <= memoryBytes) found.push({ change, plan });
    if (found.length === 2) break;
  }
  return found;
}

/** An eighth of the experts, where that is fewer than at a time now and they can go in groups. */
function smallGroup(settings: TrainSettings, { architecture }: Geometry): number | null {
  const [size, now] = [Math.max(1, architecture.experts.count >> 3), settings.expert_group_size];
  const possible =
    !METHODS[settings.method].holdsBlocks && hasExperts(architecture) && !expertsShareState(settings, architecture);
  return possible && (now === 0 || now > size) ? size : null;
}

function largestDivisorBelow(of: number, below: number): number {
  for (let divisor = below - 1; divisor > 1; divisor--) if (of % divisor === 0) return divisor;
  return 1;
}
