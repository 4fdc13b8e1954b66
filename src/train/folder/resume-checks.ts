// Whether a run can go on from a checkpoint: its files are what was saved, and the data is the same. Differences that
// do no harm become notes. Reads only.
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { type Checked, checkCheckpoint } from "../../checkpoint/files/check-files.js";
import { checkpointFolder } from "../../checkpoint/run/checkpoints.js";
import { listCheckpoints, readSavedRun, type SavedRun } from "../../checkpoint/run/state.js";
import {
  type DataFingerprint,
  fingerprintData,
  firstDifference,
  isReordered,
  readFingerprint,
  sharedDocuments,
} from "../../data/fingerprint.js";
import type { Documents, RowsFingerprint } from "../../data/documents.js";
import { UserError } from "../../errors.js";
import { nothingToResume } from "./run-folder.js";
import type { TrainSettings } from "../settings/settings.js";

export interface CheckedRun {
  folder: string;
  state: SavedRun;
  notes: string[];
}

/**
 * The run in a checkpoint folder. Errors: UserError that names the damaged file, and the checkpoint to resume from
 * instead.
 */
export function openCheckpoint(folder: string): CheckedRun {
  if (!existsSync(folder))
    throw new UserError(
      `resume: ${folder} is not there (expected a checkpoint-N folder, or "latest"). Check the path.`,
    );
  const read = tryCheckpoint(folder);
  if (typeof read !== "string") return read;
  const step = /^checkpoint-(\d+)$/.exec(basename(folder))?.[1];
  const older = step === undefined ? undefined : newestWhole(dirname(folder), Number(step)).found;
  throw new UserError(
    `${read} ${older ? `Go on from the newest that is whole, resume: ${older.folder}` : "There is no whole checkpoint before it: start anew, or restore the file from a copy."}`,
  );
}

/**
 * The newest whole checkpoint of a run; its notes say what is wrong with newer ones. Errors: UserError when there is
 * none.
 */
export function openNewestCheckpoint(outputDir: string): CheckedRun {
  const { found, damaged } = newestWhole(outputDir);
  if (found)
    return {
      ...found,
      notes: [...damaged.map((problem) => `${problem} Going on from ${found.folder} instead`), ...found.notes],
    };
  if (damaged.length === 0) throw nothingToResume(outputDir);
  const others = damaged.length > 1 ? ` Nor are the ${damaged.length - 1} before it whole.` : "";
  throw new UserError(`${damaged[0]}${others} Start anew with overwrite_output_dir, or restore the file from a copy.`);
}

function newestWhole(outputDir: string, before = Number.POSITIVE_INFINITY): { found?: CheckedRun; damaged: string[] } {
  const damaged: string[] = [];
  for (const step of listCheckpoints(outputDir).reverse()) {
    if (step >= before) continue;
    const read = tryCheckpoint(checkpointFolder(outputDir, step));
    if (typeof read !== "string") return { found: read, damaged };
    damaged.push(read);
  }
  return { damaged };
}

/** The run in a folder, or a sentence that says what is damaged. */
function tryCheckpoint(folder: string): CheckedRun | string {
  let state: SavedRun;
  let checked: Checked;
  try {
    checked = checkCheckpoint(folder);
    if (checked.problems.length === 0) state = readSavedRun(folder);
    else return checked.problems.map(({ file, problem }) => `${join(folder, file)} ${problem}.`).join(" ");
  } catch (failure) {
    if (failure instanceof UserError) return failure.message;
    throw failure;
  }
  const unchecked = `${folder} has no manifest (an older version saved it), so only the lengths of its files could be checked`;
  return { folder, state, notes: checked.by === null ? [unchecked] : [] };
}

/** Settings that decide what is trained. Others may change when a run goes on. */
const DATA_SETTINGS = [
  "train_file",
  "format",
  "columns",
  "assistant_only_loss",
  "completion_only_loss",
  "train_on",
  "chat_template",
  "chat_template_kwargs",
  "eos_token",
  "excess_length_strategy",
  "validation_rows",
  "validation_file",
] as const satisfies (keyof TrainSettings)[];

export interface RunData {
  documents: Documents;
  evalDocuments: Documents;
  fingerprint: DataFingerprint;
}

export const withFingerprint = (data: Parameters<typeof fingerprintData>[0]): RunData => ({
  documents: data.documents,
  evalDocuments: data.evalDocuments,
  fingerprint: fingerprintData(data),
});

/**
 * Compares the data with the data of the resumed run, and returns notes. Errors: UserError that names what has changed,
 * when other rows would be trained, another tokenizer is used, or held-out rows were trained on.
 */
export function checkSameData(
  settings: TrainSettings,
  { folder, state }: { folder: string; state: SavedRun | Omit<SavedRun, "restore"> },
  data: RunData,
): string[] {
  const before = readFingerprint(state.data);
  if (before === null)
    return [
      `${folder} does not say what it was trained on (an older version saved it), so nobody checks that the data is the same`,
    ];
  const now = data.fingerprint;
  const changes: string[] = [];
  if (now.tokenizer !== before.tokenizer) changes.push(`the tokenizer.json of ${settings.model} is another one`);
  if (now.trained.digest !== before.trained.digest) {
    if (now.template !== before.template) changes.push("the chat template is another one");
    changes.push(
      ...changedSettings(settings, state.settings),
      describeRows(data.documents, before.trained, now.trained),
    );
  }
  if (changes.length > 0) {
    throw new UserError(
      `resume: the data is not what ${folder} was trained on: ${changes.join("; ")}. ` +
        `Give the run's own data and tokenizer, or start a new run with model: ${folder}.`,
    );
  }
  return heldOutNotes(folder, before.heldOut, data);
}

function heldOutNotes(
  folder: string,
  before: RowsFingerprint | null,
  { documents, evalDocuments, fingerprint: { heldOut } }: RunData,
): string[] {
  if (heldOut === null || heldOut.digest === before?.digest) return [];
  const trained = sharedDocuments(evalDocuments, documents);
  if (trained.length > 0) {
    throw new UserError(
      `resume: ${trained.length} of the ${evalDocuments.length} held-out rows are not those of ${folder}, but rows that it was trained on (the first is ${trained[0].place}). ` +
        "Hold out other rows.",
    );
  }
  return before === null
    ? []
    : [`the held-out rows are not those of ${folder}: losses before and after it do not compare`];
}

function changedSettings(settings: TrainSettings, before: Record<string, unknown>): string[] {
  const shown = (value: unknown): string =>
    value === "" ? "not given" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return DATA_SETTINGS.filter(
    (name) => name in before && JSON.stringify(before[name]) !== JSON.stringify(settings[name]),
  ).map((name) => `${name} is ${shown(settings[name])}, ${shown(before[name])} before`);
}

function describeRows(documents: Documents, before: RowsFingerprint, now: RowsFingerprint): string {
  if (before.documents !== now.documents) {
    return `${now.documents} documents of ${now.tokens} tokens are trained on, ${before.documents} of ${before.tokens} before`;
  }
  const { first, last } = firstDifference(before, now) ?? { first: 0, last: documents.length - 1 };
  const placeOf = (index: number): string => documents.document(index).place;
  const where = first === last ? placeOf(first) : `a row from ${placeOf(first)} to ${placeOf(last)}`;
  return isReordered(before, now)
    ? `the rows are in another order, first at ${where}`
    : `the first row that differs is ${where}`;
}
