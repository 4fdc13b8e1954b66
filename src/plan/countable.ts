// What a plan counts in a moment, though a run of it may be absurd: what takes lists as long as a number in a setting or in
// config.json is refused above a bound that no real work comes near. Tokens have none: no list is as long as they are many.
import { UserError } from "../errors.js";
import type { ModelConfig } from "../model/architecture.js";
import type { TrainSettings } from "../train/settings.js";

const MOST_ROWS = 2 ** 20;
/** Routing is kept in two bytes (model/routing.ts). */
const MOST_EXPERTS = 2 ** 15 - 1;
/** Blocks that are counted one by one. */
const MOST_WALKED = 256;
/** Blocks of which there are lists. */
const MOST_BLOCKS = 2 ** 20;

/** Throws a UserError where there is too much of something; `walked` is how many blocks are counted one by one. */
export function checkCountable(settings: TrainSettings, { numExperts, numLayers, sparse }: ModelConfig, walked: number): void {
  const { per_device_train_batch_size: rows, parameters } = settings;
  const most = (name: string, value: number, bound: number, what: string): void => {
    if (value <= bound) return;
    throw new UserError(`${name}: ${value} ${what} are more than a plan counts (expected at most ${bound}). Ask for fewer.`);
  };
  most("per_device_train_batch_size", rows, MOST_ROWS, "rows");
  most("num_experts", numExperts, MOST_EXPERTS, "experts");
  // Main memory for a run's parameters is that of every block.
  most("num_hidden_layers", numLayers, parameters === "host" ? MOST_WALKED : MOST_BLOCKS, "blocks");
  const why = sparse.every((is) => is === sparse[0])
    ? "blocks_per_step, checkpoint_first_blocks, checkpoint_last_blocks"
    : "num_hidden_layers";
  most(why, walked, MOST_WALKED, "blocks to be counted one by one");
}
