// How many steps a run has. A step takes gradient_accumulation_steps micro-batches of every rank. At the end of an
// epoch it takes fewer and ends with the epoch, as in transformers; otherwise few rows would make fewer steps, over
// more epochs, than were asked for.
import type { Collectives } from "../../parallel/collectives.js";
import type { TrainSettings } from "../settings/settings.js";

type Ranks = Pick<Collectives, "world">;
type StepSizes = Pick<TrainSettings, "gradient_accumulation_steps" | "sequence_ranks">;
type Sizes = StepSizes & Pick<TrainSettings, "max_steps" | "num_train_epochs">;

/** Micro-batches of a step, over all ranks; sequence_ranks of them hold each one together. */
export const batchesPerStep = (settings: StepSizes, { world }: Ranks): number =>
  (settings.gradient_accumulation_steps * world) / settings.sequence_ranks;

export const stepsPerEpoch = (settings: StepSizes, batchesPerEpoch: number, ranks: Ranks): number =>
  Math.ceil(batchesPerEpoch / batchesPerStep(settings, ranks));

/** Steps of a run; at least one. */
export const totalStepsOf = (settings: Sizes, batchesPerEpoch: number, ranks: Ranks): number =>
  settings.max_steps ||
  Math.max(1, Math.ceil(settings.num_train_epochs * stepsPerEpoch(settings, batchesPerEpoch, ranks)));
