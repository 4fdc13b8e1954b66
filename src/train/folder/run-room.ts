// Before the first step: whether what a run will save has a place. What is certain to be written must fit on the disk and
// be allowed; what may run out later is said. Reads only.
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
  /** Of the model as it is saved. */
  weightBytes: number;
  /** Of the optimizer's state, which a checkpoint holds beside the model. */
  stateBytes: number;
}

/** Refuses a run whose result could not be saved; returns what should be known of the others. Errors: UserError. */
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

/** How much more the disk will hold at its fullest: `certain` is at least needed, `most` when all checkpoints stay. */
function bytesToSave({ settings, stepsPerEpoch, startStep, totalSteps, weightBytes, stateBytes }: Saving): {
  certain: number;
  most: number;
} {
  const { save_total_limit: limit, output_dir: dir } = settings;
  const checkpoint = weightBytes + stateBytes;
  const saves = savesBetween(settings, startStep, totalSteps, stepsPerEpoch);
  // A limit removes the oldest, but not before the next one is whole.
  const present = isReplaced(settings) ? 0 : listCheckpoints(dir).length;
  const kept = limit > 0 ? Math.min(saves, Math.max(0, limit - present)) : saves;
  const atOnce = limit > 0 ? Math.min(saves, kept + 1) : saves;
  const most = Math.max(atOnce * checkpoint, kept * checkpoint + weightBytes);
  return { most, certain: limit > 0 ? most : Math.min(saves, 1) * checkpoint + weightBytes };
}

/** Checkpoints of the steps to come by settings alone, the last step's among them. */
function savesBetween(settings: TrainSettings, startStep: number, totalSteps: number, stepsPerEpoch: number): number {
  if (!savesAtAll(settings) || startStep === totalSteps) return 0;
  const every = settings.save_strategy === "epoch" ? stepsPerEpoch : settings.save_steps;
  return Math.floor((totalSteps - 1) / every) - Math.floor(startStep / every) + 1;
}
