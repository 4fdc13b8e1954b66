// Before the first step: is there room for what a run will save? What will certainly be written must fit on the disk
// and be allowed; what may not fit later is a note. Reads only.
import { accessSync, constants, existsSync } from "node:fs";
import { dirname, join } from "node:path";

import { listCheckpoints } from "../../checkpoint/run/checkpoints.js";
import { freeBytes, reasonOf } from "../../checkpoint/files/disk.js";
import { realPath } from "../../checkpoint/files/places.js";
import { whyNotReplaced } from "../../checkpoint/files/save-folder.js";
import { UserError } from "../../errors.js";
import { formatBytes } from "../../format.js";
import { isReplaced, replacedBytes } from "./run-folder.js";
import type { TrainSettings } from "../settings/settings.js";
import { savesAtAll } from "../settings/saving.js";

export interface Saving {
  settings: TrainSettings;
  stepsPerEpoch: number;
  startStep: number;
  totalSteps: number;
  /** Bytes of the model as it is saved. */
  weightBytes: number;
  /** Bytes of the optimizer's state, which a checkpoint has beside the model. */
  stateBytes: number;
}

/** Errors: UserError if the result of the run could not be saved. Returns notes on saves that may fail later. */
export function checkRoom(saving: Saving): string[] {
  const { settings } = saving;
  const dir = settings.output_dir;
  if (!isReplaced(settings)) {
    const problem = finalProblem(dir);
    if (problem)
      throw new UserError(
        `output_dir: the result cannot be saved: ${problem}. Move it away, or choose another folder.`,
      );
  }
  const free = freeBytes(dir) + replacedBytes(settings);
  const { certain, most } = bytesToSave(saving);
  if (certain > free) {
    throw new UserError(
      `output_dir: ${dir} will need ${formatBytes(certain)} for its ${certain > saving.weightBytes ? "checkpoints and its result" : "result"}, but only ` +
        `${formatBytes(free)} are free on its disk. Free some space, choose another disk, or save less (save_steps, save_total_limit).`,
    );
  }
  if (most <= free) return [];
  return [
    `all checkpoints and the result need ${formatBytes(most)}, but ${formatBytes(free)} are free on the disk of ${dir}; save_total_limit keeps only the newest`,
  ];
}

/** Why nothing can be saved as the folder `final` of `dir`; undefined when nothing is in the way. */
export function finalProblem(dir: string): string | undefined {
  const final = join(dir, "final");
  if (!existsSync(final)) return undefined;
  const inTheWay = whyNotReplaced(final, "ours or older");
  if (inTheWay !== undefined) return `${final} stays, because ${inTheWay}`;
  try {
    for (const each of [final, dirname(realPath(final))]) accessSync(each, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (failure) {
    return `${final} cannot be replaced: ${reasonOf(failure)}`;
  }
}

/** Most bytes that the disk will hold for the run: `certain` in any case, `most` if all checkpoints stay. */
function bytesToSave({ settings, stepsPerEpoch, startStep, totalSteps, weightBytes, stateBytes }: Saving): {
  certain: number;
  most: number;
} {
  const { save_total_limit: limit, output_dir: dir } = settings;
  const checkpoint = weightBytes + stateBytes;
  const saves = savesBetween(settings, startStep, totalSteps, stepsPerEpoch);
  // A limit removes the oldest one, but only once the next one is whole.
  const present = isReplaced(settings) ? 0 : listCheckpoints(dir).length;
  const kept = limit > 0 ? Math.min(saves, Math.max(0, limit - present)) : saves;
  const atOnce = limit > 0 ? Math.min(saves, kept + 1) : saves;
  const most = Math.max(atOnce * checkpoint, kept * checkpoint + weightBytes);
  return { most, certain: limit > 0 ? most : Math.min(saves, 1) * checkpoint + weightBytes };
}

/** Number of checkpoints still to come that the settings ask for, including the last step's. */
function savesBetween(settings: TrainSettings, startStep: number, totalSteps: number, stepsPerEpoch: number): number {
  if (!savesAtAll(settings) || startStep === totalSteps) return 0;
  const every = settings.save_strategy === "epoch" ? stepsPerEpoch : settings.save_steps;
  return Math.floor((totalSteps - 1) / every) - Math.floor(startStep / every) + 1;
}
