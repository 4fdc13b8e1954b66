// The folder of a run: new, empty, or written by a run before; no other folder. A lock holds it from `openRunFolder` to
// `close`. What a killed run left half done is put right, and a note says so. A run that is overwritten is first marked
// as void and then removed, so after a kill in between the old run is either as it was or not resumable.
import { accessSync, constants, existsSync, lstatSync, readdirSync, rmdirSync, rmSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";

import { latestCheckpoint, STATE_FILE } from "../../checkpoint/run/checkpoints.js";
import { makeFolders, reasonOf } from "../../checkpoint/files/disk.js";
import { foreignEntries } from "../../checkpoint/files/kept-files.js";
import { checkOutsideOfModel, holdsWeights, liesIn } from "../../checkpoint/files/places.js";
import { checkUnlocked, LOCK_FILE, type RunLock, takeLock } from "../../checkpoint/run/lock.js";
import {
  isRunFolder,
  isRunRecord,
  isUnfinished,
  isWorkingCopy,
  readMarker,
  RUN_FILE,
  runParts,
  WORKING_FOLDER,
  writeMarker,
} from "../../checkpoint/run/marker.js";
import { settleFolders } from "../../checkpoint/files/save-folder.js";
import { parseSources } from "../../data/sources/parse.js";
import { placeOf } from "../../data/sources/glob.js";
import { METRICS_FILE, tellsOfSteps } from "../../metrics/sinks/jsonl.js";
import { UserError } from "../../errors.js";
import type { TrainSettings } from "../settings/settings.js";

export interface RunFolder {
  /** What was found and put right. */
  notes: string[];
  /** Takes the folder for this run, and removes the run that it replaces. A second call does nothing. */
  begin(): void;
  /** Releases the lock. */
  close(): void;
  /** Like `close`, for a run that was refused: also removes folders that were made for it and are empty. */
  abandon(): void;
}

type Place = Pick<
  TrainSettings,
  "output_dir" | "model" | "resume" | "overwrite_output_dir" | "train_file" | "validation_file"
>;

/** Refuses a folder that a run must not write to, before anything is loaded; writes nothing. Errors: UserError. */
export function checkRunFolder(settings: Place): void {
  const { output_dir: dir, resume } = settings;
  checkOutsideOfModel(dir, settings.model);
  // Checked before it is removed as the remains of a kill.
  if (isUnfinished(basename(resolve(resume)))) {
    throw new UserError(
      `resume: ${resume} is what a save that was cut off left (expected a checkpoint-N folder). Give another, or "latest".`,
    );
  }
  if (existsSync(dir)) {
    checkKind(dir);
    checkUnlocked(dir);
    checkContent(settings);
  }
  // Checked before the lock is taken, so that a run that cannot begin does not lock out one that can.
  if (resume === "latest" && latestCheckpoint(dir) === null && !hasWorkingCopy(dir)) throw nothingToResume(dir);
}

/** The error for `resume: latest` without a checkpoint; it says what to do instead. */
export function nothingToResume(dir: string): UserError {
  const begin =
    existsSync(dir) && isUsed(dir)
      ? "Start anew with overwrite_output_dir in place of resume"
      : "Leave resume out to begin";
  const [partly] = existsSync(dir) ? runParts(dir).filter((name) => /^checkpoint-\d+$/.test(name)) : [];
  const final = join(dir, "final");
  if (partly === undefined && existsSync(join(final, "config.json"))) {
    return new UserError(
      `resume: the run in ${dir} has ended, and left no checkpoint to go on from (it had no save_steps). Train its result further in another output_dir with model: ${final} and without resume; ` +
        "with save_steps, that run can go on after its end.",
    );
  }
  const lacks = partly === undefined ? "" : ` (${partly} lacks files; revmoe verify ${dir} names them)`;
  return new UserError(`resume: no complete checkpoint-N folder in ${dir}${lacks}. ${begin}.`);
}

/** Makes the folder of a run, or takes over one that is the run's, and locks it. Errors: UserError. */
export function openRunFolder(settings: Place): RunFolder {
  checkRunFolder(settings);
  const { output_dir: dir } = settings;
  let made: string[] = [];
  let lock: RunLock;
  try {
    made = makeFolders(dir);
    accessSync(dir, constants.W_OK | constants.X_OK);
    lock = takeLock(dir);
  } catch (failure) {
    removeEmpty(made);
    throw failure instanceof UserError
      ? failure
      : new UserError(`output_dir: ${dir} cannot be written: ${reasonOf(failure)}. Choose another folder.`);
  }
  const notes = lock.note === null ? [] : [lock.note];
  const marked = readMarker(dir) !== undefined;
  let begun = false;
  const abandon = (): void => {
    if (!marked && isBare(dir)) rmSync(join(dir, RUN_FILE), { force: true });
    lock.release();
    removeEmpty(made);
  };
  try {
    if (readMarker(dir)?.replacing) {
      removeRun(dir);
      notes.push(`a run in ${dir} was being overwritten when that was cut off; the rest of it is removed`);
    }
    // Checked again, since another run may have ended here in the meantime.
    checkContent(settings);
    if (!isReplaced(settings)) notes.push(...tidy(dir));
    if (settings.overwrite_output_dir && !isReplaced(settings))
      notes.push("overwrite_output_dir has no effect on a run that is resumed");
  } catch (failure) {
    abandon();
    throw failure;
  }
  return {
    notes,
    begin: () => {
      if (begun) return;
      begun = true;
      if (isReplaced(settings) && !isBare(dir)) removeRun(dir);
      else if (!marked) writeMarker(dir, { replacing: false });
    },
    close: () => lock.release(),
    abandon,
  };
}

/** Bytes that overwriting will remove. */
export function replacedBytes(settings: Place): number {
  const { output_dir: dir } = settings;
  if (!isReplaced(settings)) return 0;
  return runParts(dir)
    .flatMap((part) =>
      lstatSync(join(dir, part)).isDirectory() ? readdirSync(join(dir, part)).map((file) => join(dir, part, file)) : [],
    )
    .reduce((sum, file) => sum + lstatSync(file).blocks * 512, 0);
}

/** Whether the run in the folder will be removed; not if it is resumed, even with overwrite_output_dir. */
export const isReplaced = (settings: Place): boolean => settings.overwrite_output_dir && !resumesHere(settings);

const resumesHere = ({ resume, output_dir: dir }: Place): boolean =>
  resume === "latest" || (resume !== "" && liesIn(resume, dir));

function checkKind(dir: string): void {
  if (!statSync(dir).isDirectory())
    throw new UserError(`output_dir: ${dir} is a file (expected a folder). Choose another name.`);
  if (!holdsWeights(dir)) return;
  throw new UserError(
    `output_dir: ${dir} holds the weights of a model, which a run would mix with its own files. Choose another folder.`,
  );
}

/** Whether a file only says whose the folder is. Another program's run.json does not. */
const isTrace = (dir: string, name: string): boolean =>
  name.startsWith(LOCK_FILE) || name === `${RUN_FILE}.new` || (name === RUN_FILE && readMarker(dir) !== undefined);

/** Whether a folder holds nothing that a resumed run could use. */
const isBare = (dir: string): boolean => readdirSync(dir).every((name) => isTrace(dir, name));

function checkContent(settings: Place): void {
  const { output_dir: dir, resume } = settings;
  if (isBare(dir) || readMarker(dir)?.replacing) return;
  if (!isRunFolder(dir)) {
    const [first] = readdirSync(dir).filter((name) => !isTrace(dir, name));
    throw new UserError(
      `output_dir: ${dir} holds ${first} and is not the folder of a run (expected a new or empty folder, or one that a run wrote). Choose another folder.`,
    );
  }
  if (isReplaced(settings)) checkRemovable(settings);
  else if (!resumesHere(settings) && isUsed(dir)) {
    const why = resume === "" ? "already holds a run" : `already holds a run, and ${resume} is of another`;
    throw new UserError(
      `output_dir: ${dir} ${why}. Choose another folder${waysOn(dir)}, or start anew with overwrite_output_dir, which removes that run.`,
    );
  }
}

const isUsed = (dir: string): boolean =>
  runParts(dir).some((name) => !isLeft(dir, name)) || tellsOfSteps(join(dir, METRICS_FILE));

function waysOn(dir: string): string {
  if (latestCheckpoint(dir) !== null) return ", go on with resume: latest";
  return hasWorkingCopy(dir) ? ", go on with resume: latest and parameters: disk" : "";
}

/**
 * Whether a part is useless: an interrupted save, or a working copy that does not say at which step it is, as one
 * rank's never does.
 */
const isLeft = (dir: string, name: string): boolean =>
  isUnfinished(name) || (isWorkingCopy(name) && !hasWorkingCopy(dir, name));

const hasWorkingCopy = (dir: string, name = WORKING_FOLDER): boolean => existsSync(join(dir, name, STATE_FILE));

const INPUTS = ["model", "train_file", "validation_file", "resume"] as const;

/** The paths that a setting names; for a glob, the folder in which it is searched. */
function inputsOf(settings: Place, name: (typeof INPUTS)[number]): string[] {
  const given = settings[name];
  if (given === "") return [];
  return name === "model" || name === "resume" ? [given] : parseSources(given, name).map(({ file }) => placeOf(file));
}

function checkRemovable(settings: Place): void {
  const { output_dir: dir } = settings;
  for (const part of runParts(dir)) {
    const path = join(dir, part);
    const used = INPUTS.find((name) =>
      inputsOf(settings, name).some((input) => existsSync(input) && liesIn(input, path)),
    );
    if (used) {
      throw new UserError(
        `${used}: ${settings[used]} is in ${part} of the run that overwrite_output_dir removes. Choose another output_dir, or copy it first.`,
      );
    }
    const foreign = isUnfinished(part) || isWorkingCopy(part) ? undefined : foreignPath(path);
    if (foreign !== undefined) {
      throw new UserError(
        `output_dir: ${foreign} was not written by a run, and overwrite_output_dir would remove it. Move it away, or choose another folder.`,
      );
    }
  }
}

/**
 * A path in a checkpoint or result, or that itself, which no save made. A link is not one: it is removed, and its
 * target stays.
 */
function foreignPath(path: string): string | undefined {
  const status = lstatSync(path);
  if (status.isSymbolicLink()) return undefined;
  if (!status.isDirectory()) return path;
  const [first] = foreignEntries(path);
  return first && join(path, first);
}

function removeRun(dir: string): void {
  writeMarker(dir, { replacing: true });
  for (const name of [...runParts(dir), ...readdirSync(dir).filter(isRunRecord)]) remove(dir, name);
  writeMarker(dir, { replacing: false });
}

/** Puts right what a killed run left; returns notes. */
function tidy(dir: string): string[] {
  const settled = settleFolders(dir);
  const left = runParts(dir).filter((name) => isLeft(dir, name));
  for (const name of left) remove(dir, name);
  const ofRanks = left.filter((name) => isWorkingCopy(name) && name !== WORKING_FOLDER);
  const removed = left
    .filter((name) => !ofRanks.includes(name))
    .map((name) =>
      name === WORKING_FOLDER
        ? `removed ${join(dir, name)}, from which no run can go on: it was killed before the first step, or had durability: snapshot`
        : `removed ${name}, which a save that was cut off left in ${dir}`,
    );
  const shares =
    ofRanks.length === 0 ? [] : [`removed what ranks that were killed left in ${dir}: ${ofRanks.join(", ")}`];
  return [...settled, ...removed, ...shares];
}

function remove(dir: string, name: string): void {
  try {
    rmSync(join(dir, name), { recursive: true, force: true });
  } catch (failure) {
    throw new UserError(
      `output_dir: ${join(dir, name)} cannot be removed: ${reasonOf(failure)}. Remove it, or choose another folder.`,
    );
  }
}

/** Removes folders that were just made and are still empty, the innermost first. */
function removeEmpty(made: string[]): void {
  for (const folder of [...made].reverse()) {
    if (!existsSync(folder) || readdirSync(folder).length > 0) return;
    rmdirSync(folder);
  }
}
