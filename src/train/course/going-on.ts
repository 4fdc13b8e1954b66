// Notes for a run that goes on with another length than before: what its schedules do then.
import { UserError } from "../../errors.js";
import { learningRateIn, phaseAt, phasesOf } from "../phases.js";
import type { Resumed } from "../prepare-resumed.js";
import type { Collectives } from "../../parallel/collectives.js";
import { totalStepsOf } from "./run-length.js";
import type { TrainSettings } from "../settings/settings.js";

/** Notes for a resumed run of `totalSteps`. Errors: UserError when it has done more steps already. */
export function lengthNotes(
  { settings, state, folder }: Resumed,
  totalSteps: number,
  batchesPerEpoch: number,
  ranks: Pick<Collectives, "world">,
): string[] {
  const { step } = state;
  const name = settings.max_steps > 0 ? "max_steps" : "num_train_epochs";
  if (step > totalSteps) {
    throw new UserError(
      `${name}: ${settings[name]} makes ${totalSteps} steps, but ${folder} has done ${step}. Ask for at least as many, or resume an earlier one.`,
    );
  }
  if (step === totalSteps)
    return [`all ${totalSteps} steps are done already: ask for more with max_steps or num_train_epochs`];
  const before = { ...settings, ...(state.settings as Partial<TrainSettings>) };
  const planned = totalStepsOf(before, batchesPerEpoch, ranks);
  return planned === totalSteps ? [] : [scheduleNote(settings, before, [planned, totalSteps], step)];
}

function scheduleNote(
  now: TrainSettings,
  before: TrainSettings,
  [planned, total]: [number, number],
  step: number,
): string {
  const rate = (settings: TrainSettings, steps: number, at: number): string => {
    const phases = phasesOf(settings, steps);
    return learningRateIn(phaseAt(phases, at), at, settings).toExponential(2);
  };
  const gamma = now.gamma_final === 0 ? "" : ", and so does the course of gamma";
  return (
    `the run was to have ${planned} steps and now has ${total}: ${now.lr_scheduler_type} goes on over all ${total} as if they had been asked for ` +
    `from the beginning${gamma}. The learning rate goes from ${rate(before, planned, step)} in step ${step} to ${rate(now, total, step + 1)} in step ${step + 1}`
  );
}
