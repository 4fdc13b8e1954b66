// How many steps a run has. A step takes gradient_accumulation_steps micro-batches, and fewer at the end of an epoch, which ends
// with it, as in transformers: otherwise few rows would make fewer steps than were asked for, over more epochs.
import type { TrainSettings } from "../settings/settings.js";

type Sizes = Pick<TrainSettings, "gradient_accumulation_steps" | "max_steps" | "num_train_epochs">;

export const stepsPerEpoch = (settings: Pick<Sizes, "gradient_accumulation_steps">, batchesPerEpoch: number): number =>
  Math.ceil(batchesPerEpoch / settings.gradient_accumulation_steps);

/** At least one. */
export const totalStepsOf = (settings: Sizes, batchesPerEpoch: number): number =>
  settings.max_steps || Math.max(1, Math.ceil(settings.num_train_epochs * stepsPerEpoch(settings, batchesPerEpoch)));
