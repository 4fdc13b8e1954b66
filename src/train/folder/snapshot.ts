// What a run writes: checkpoint-N, from which it resumes exactly, and final/, the result. Both are Hugging Face folders
// of the ordinary architecture with revmoe.json beside, saved whole or not at all.
import { join } from "node:path";

import { checkpointFolder } from "../../checkpoint/run/checkpoints.js";
import { NotFiniteError } from "../../checkpoint/finite.js";
import { listCheckpoints, pruneCheckpoints, writeSavedRun } from "../../checkpoint/run/state.js";
import { type SaveOptions, saveModel } from "../../checkpoint/save.js";
import { writeNetworkFile } from "../../network/description.js";
import type { Run } from "../prepare.js";
import { readersOf } from "./shared-saves.js";

/** Told what happened to a person's files in a folder that is replaced. */
type Say = (note: string) => void;

/**
 * Saves the run after `step`, and only then removes older checkpoints; returns the folder. Errors: NotFiniteError when
 * weights or state are not finite; all that was saved before stays.
 */
export function saveCheckpoint(run: Run, step: number, say: Say = () => {}): string {
  const { settings, states, data, fingerprint, bestModel } = run;
  const folder = checkpointFolder(settings.output_dir, step);
  const extraFiles = (side: string): void => {
    writeNetworkFile(side, run.state.description);
    writeSavedRun(side, {
      step,
      batches: data.state(),
      settings,
      data: fingerprint,
      best: bestModel.best,
      tensors: states.tensors(),
      readWhole: readersOf(run).readWhole,
    });
  };
  save(run, step, folder, { verify: false, extraFiles }, say);
  if (settings.save_total_limit > 0)
    pruneCheckpoints(settings.output_dir, settings.save_total_limit, step, bestModel.neededStep);
  return folder;
}

/**
 * Saves the trained model; reopens and compares it before reporting success; returns the folder. Errors: as
 * `saveCheckpoint`.
 */
export function saveFinal(run: Run, say: Say = () => {}, name = "final"): string {
  const folder = join(run.settings.output_dir, name);
  save(run, run.totalSteps, folder, { extraFiles: (side) => writeNetworkFile(side, run.state.description) }, say);
  return folder;
}

function save(run: Run, step: number, folder: string, options: Omit<SaveOptions, "source">, say: Say): void {
  try {
    const { readRows } = readersOf(run);
    const own = { source: run.source, replaced: "ours or older", readRows } as const;
    saveModel(folder, run.state.network.model, { ...own, ...options }).forEach(say);
  } catch (failure) {
    throw failure instanceof NotFiniteError ? explained(failure, run, step, folder) : failure;
  }
}

function explained({ tensor, value }: NotFiniteError, { settings }: Run, step: number, folder: string): NotFiniteError {
  const last = listCheckpoints(settings.output_dir).findLast((each) => each <= step);
  return new NotFiniteError(
    tensor,
    value,
    `step ${step}: ${tensor} holds ${value} (expected finite numbers), so ${folder} is not saved, and nothing that was saved before was touched. ` +
      (last === undefined
        ? "No checkpoint was saved before: start anew with a lower learning_rate and with save_steps."
        : `Go on with a lower learning_rate from the last good checkpoint, resume: ${checkpointFolder(settings.output_dir, last)}`),
  );
}
