// How many steps a run has. A step takes gradient_accumulation_steps micro-batches of every rank, and fewer at the end of an epoch, which ends
// with it, as in transformers: otherwise few rows would make fewer steps than were asked for, over more epochs.
import type { Collectives } from "../../parallel/collectives.js";
import type { TrainSettings } from "../settings/settings.js";

type Ranks = Pick<Collectives, "world">;
type StepSizes = Pick<TrainSettings, "gradient_accumulation_steps" | "sequence_ranks">;
type Sizes = StepSizes & Pick<TrainSettings, "max_steps" | "num_train_epochs">;

/** Micro-batches of a step, over all ranks, of which some may hold each together. */
export const batchesPerStep = (settings: StepSizes, { world }: Ranks): number =>
  (settings.gradient_accumulation_steps * world) / settings.sequence_ranks;

export const stepsPerEpoch = (settings: StepSizes, batchesPerEpoch: number, ranks: Ranks): number =>
  Math.ceil(batchesPerEpoch / batchesPerStep(settings, ranks));

/** At least one. */
export const totalStepsOf = (settings: Sizes, batchesPerEpoch: number, ranks: Ranks): number =>
  settings.max_steps ||
  Math.max(1, Math.ceil(settings.num_train_epochs * stepsPerEpoch(settings, batchesPerEpoch, ranks)));
