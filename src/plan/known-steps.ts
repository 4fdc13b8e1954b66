// What was counted before. A search for what fits asks for the same step again and again: beside another machine, with other blocks that stay
// on the device, as the last that is tried and as the one that is taken. What is known of a geometry goes with it; nobody changes it.
import type { TrainSettings } from "../train/settings/settings.js";
import type { Geometry, ShadowStep, StoredBytes } from "./shadow-step.js";

const known = new WeakMap<Geometry, Map<string, unknown>>();

function counted<Result>(geometry: Geometry, decisive: unknown, count: () => Result): Result {
  const results = known.get(geometry) ?? new Map<string, unknown>();
  known.set(geometry, results);
  const key = JSON.stringify(decisive);
  const result = (results.get(key) as Result | undefined) ?? count();
  results.set(key, result);
  return result;
}

/** A step of these settings, and of what else decides; which blocks stay on the device does not. */
export const knownStep = (
  settings: TrainSettings,
  geometry: Geometry,
  decisive: readonly number[],
  count: () => ShadowStep,
): ShadowStep => counted(geometry, [{ ...settings, blocks_on_device: 0 }, decisive], count);

const NO_WORK = { max_length: 0, per_device_train_batch_size: 0, gradient_accumulation_steps: 0 };
const NO_TILES = { tile_tokens: 0, loss_tile_tokens: 0 };

/** Where weights and state of these settings are; the work of a step decides nothing. */
export const knownStored = (settings: TrainSettings, geometry: Geometry, count: () => StoredBytes): StoredBytes =>
  counted(geometry, { ...settings, ...NO_WORK, ...NO_TILES }, count);
