// When a run evaluates, writes samples and saves: by steps, after epochs, and after its last step.
import type { Batches } from "../../data/batches.js";
import { savesAtAll } from "../settings/saving.js";
import type { Collectives } from "../../parallel/collectives.js";
import { batchesPerStep } from "./run-length.js";
import type { TrainSettings } from "../settings/settings.js";

interface Where {
  settings: Readonly<TrainSettings>;
  totalSteps: number;
  data: Batches;
  ranks: Pick<Collectives, "world">;
}

/** Whether the last step ended an epoch. */
const endsEpoch = ({ data }: Where): boolean => data.state().position === 0;

/** Whether the next step will end an epoch. If batches are left out, it may do so even if this says no. */
const willEndEpoch = ({ settings, data, ranks }: Where): boolean =>
  data.state().position + batchesPerStep(settings, ranks) >= data.batchesPerEpoch;

const isDue = (strategy: TrainSettings["save_strategy"], every: number, step: number, epoch: boolean): boolean =>
  strategy === "steps" ? every > 0 && step % every === 0 : strategy === "epoch" && epoch;

/**
 * What is due after `step`, which was just made. After the last step an evaluation is, and a checkpoint if the run
 * saves any.
 */
export function dueAfter(run: Where, step: number): Record<"evaluation" | "samples" | "checkpoint", boolean> {
  const { settings, totalSteps } = run;
  const { eval_strategy, eval_steps, save_strategy, save_steps, sample_steps } = settings;
  const epoch = endsEpoch(run);
  return {
    evaluation: step === totalSteps || isDue(eval_strategy, eval_steps, step, epoch),
    samples: isDue("steps", sample_steps, step, epoch),
    checkpoint: savesAtAll(settings) && (step === totalSteps || isDue(save_strategy, save_steps, step, epoch)),
  };
}

/** Whether these settings will save after `step`, which is the next to be made. */
export const willSave = (run: Where, step: number): boolean =>
  step === run.totalSteps || isDue(run.settings.save_strategy, run.settings.save_steps, step, willEndEpoch(run));
