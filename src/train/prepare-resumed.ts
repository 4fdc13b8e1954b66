// Where a resumed run goes on: from which checkpoint, or from the working copy of an interrupted run; and whether its
// settings allow that. Reads only, except that a working copy is brought back to the end of its last whole step.
import { listCheckpoints, type SavedRun } from "../checkpoint/run/state.js";
import { UserError } from "../errors.js";
import { DESCRIBED_SETTINGS } from "../reversible/couplings/registry.js";
import { openCheckpoint, openNewestCheckpoint } from "./folder/resume-checks.js";
import type { ResumedFrom } from "./prepare-network.js";
import { goesOnInPlace, refuseIdleCopy, unfinishedRun } from "./prepare-store.js";
import { isSame, type SettingValue } from "../settings/table.js";
import { showValue } from "../settings/values.js";
import type { TrainSettings } from "./settings/settings.js";

/**
 * What a run cannot change midway: its network, what its optimizer keeps, and the order of its data, in which it has a
 * position.
 */
const FIXED = [
  "coupling",
  ...DESCRIBED_SETTINGS,
  "gamma_final",
  "blocks_per_step",
  "checkpoint_first_blocks",
  "checkpoint_last_blocks",
  "optimizer",
  "weights_correction",
  "stream",
  "stream_fraction_bits",
  "seed",
  "shuffle",
  "packing",
  "max_length",
  "per_device_train_batch_size",
  "freeze",
  "freeze_router",
  "add_tokens",
  "add_special_tokens",
  "adapter_steps",
  "distill_steps",
] as const satisfies (keyof TrainSettings)[];

function checkSame(settings: TrainSettings, before: Record<string, unknown>, folder: string): void {
  for (const name of FIXED) {
    if (before[name] === undefined || isSame(settings[name], before[name] as SettingValue)) continue;
    throw new UserError(
      `${name}: ${showValue(settings[name])} here, but ${folder} was trained with ${showValue(before[name])}. Give the same value, or start a new run with model: ${folder}.`,
    );
  }
}

interface Found extends ResumedFrom {
  state: SavedRun;
  notes: string[];
}

export interface Resumed extends Found {
  /** The settings that were asked for, with the grid that the run began with if they leave it open. */
  settings: TrainSettings;
}

/**
 * The run that `resume` names; undefined if it is empty. Errors: UserError if the run cannot go on with these settings.
 */
export function findResumed(asked: TrainSettings): Resumed | undefined {
  if (!asked.resume) return undefined;
  const found = asked.resume === "latest" ? latestRun(asked) : { ...openCheckpoint(asked.resume), inPlace: false };
  const { settings: before } = found.state;
  const bits = asked.stream_fraction_bits || Number(before.stream_fraction_bits ?? 0);
  const settings = { ...asked, stream_fraction_bits: bits };
  checkSame(settings, before, found.folder);
  return { ...found, settings };
}

/** The working copy of an interrupted run, if it is ahead of every checkpoint; else the newest whole checkpoint. */
function latestRun(settings: TrainSettings): Found {
  const { output_dir } = settings;
  const newest = listCheckpoints(output_dir).at(-1) ?? -1;
  const unfinished = unfinishedRun(settings, newest + 1);
  if (!goesOnInPlace(settings)) refuseIdleCopy(output_dir, newest);
  if (unfinished)
    return {
      folder: unfinished.folder,
      inPlace: true,
      state: { ...unfinished.progress, restore: () => {} },
      notes: [],
    };
  return { ...openNewestCheckpoint(output_dir), inPlace: false };
}
