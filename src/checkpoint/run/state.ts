// What a checkpoint-N folder holds beside the model so that a run goes on exactly where it stopped: trainer_state.json
// and optimizer.safetensors. The training loop decides which tensors these are; here they have names and bytes.
import { existsSync } from "node:fs";
import { join } from "node:path";

import { excerpt, UserError } from "../../errors.js";
import { copy_, narrow, reshape, view } from "../../torch/ops.js";
import { generatorState, setGeneratorState } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { byteSize, dtype, fromArray, numel, readBytes, shape, type Tensor } from "../../torch/tensor.js";
import { OPTIMIZER_FILE, STATE_FILE } from "./checkpoints.js";
import { writeFileDurably } from "../files/disk.js";
import { checkFinite, notFinite } from "../finite.js";
import { readJsonObject } from "../folder.js";
import { openSafetensors, type SafetensorsFile } from "../safetensors/file.js";
import { writeSafetensors } from "../safetensors/writer.js";

export { latestCheckpoint, listCheckpoints, pruneCheckpoints } from "./checkpoints.js";

const VERSION = 1;

export interface NamedTensor {
  name: string;
  tensor: Tensor;
  /** The parameter whose state it is. */
  of?: string;
  /** Set if this process has only some elements: the shape of the whole, and the index of the first element here. */
  part?: { shape: readonly number[]; first: number };
}

interface Progress {
  /** Steps done. */
  step: number;
  /** The place where the data goes on. */
  batches: { epoch: number; position: number };
}

export interface WrittenProgress extends Progress {
  /** Resolved settings of the run; anything that JSON can hold. */
  settings: object;
  /** Identifies what the run is trained on, so that it goes on with the same; anything that JSON can hold. */
  data?: object | null;
  /** The best evaluation so far; anything that JSON can hold. */
  best?: object | null;
  /** States of random generators by device, see `generatorStates`; for work that draws in sequence. */
  generators?: Record<string, string> | null;
}

export interface WrittenState extends WrittenProgress {
  /** The optimizer's state. */
  tensors: NamedTensor[];
  /** Reads the whole of a tensor of which this process has a part, for the caller's scope. */
  readWhole?: (named: NamedTensor) => Tensor;
}

export interface ReadProgress extends Progress {
  settings: Record<string, unknown>;
  /** As in the file, unchecked; null if an older version left it out. */
  data: unknown;
  best: unknown;
  generators: Record<string, string> | null;
}

export interface SavedRun extends ReadProgress {
  /**
   * Copies the saved optimizer state into these tensors. Errors: UserError before the first copy when names, shapes or
   * dtypes differ, so that optimizer or model is not the run's; after the copies when the state is not finite.
   */
  restore(tensors: NamedTensor[]): void;
}

/** Writes the state of a run into an existing folder, which `saveFolder` then puts in its place. */
export function writeSavedRun(dir: string, { tensors, readWhole, ...progress }: WrittenState): void {
  writeSafetensors(
    join(dir, OPTIMIZER_FILE),
    tensors.map((named) => ({
      name: named.name,
      dtype: dtype(named.tensor),
      shape: wholeShape(named),
      read: () => finite(readWhole?.(named) ?? named.tensor, named.name, dir),
    })),
  );
  writeFileDurably(join(dir, STATE_FILE), progressText(progress));
}

const wholeShape = ({ tensor, part }: NamedTensor): number[] => [...(part?.shape ?? shape(tensor))];

function finite(tensor: Tensor, name: string, where: string): Tensor {
  checkFinite(tensor, name, where);
  return tensor;
}

/** The text of trainer_state.json. */
export const progressText = ({
  step,
  batches,
  settings,
  data = null,
  best = null,
  generators = null,
}: WrittenProgress): string =>
  `${JSON.stringify({ version: VERSION, step, batches, settings, data, best, generators }, null, 2)}\n`;

/** The state of the run in a checkpoint folder; also checks that the optimizer's file is complete. */
export function readSavedRun(dir: string): SavedRun {
  for (const file of [STATE_FILE, OPTIMIZER_FILE]) {
    if (!existsSync(join(dir, file))) {
      throw new UserError(
        `${dir}: ${file} is missing, so no run can go on from here (expected a complete checkpoint-N folder of a run).`,
      );
    }
  }
  const progress = readProgress(join(dir, STATE_FILE));
  const optimizer = join(dir, OPTIMIZER_FILE);
  openSafetensors(optimizer).close();
  return { ...progress, restore: (tensors) => restoreTensors(optimizer, tensors) };
}

/** Reads a file that was written with `progressText`. */
export function readProgress(path: string): ReadProgress {
  const { version, step, batches, settings, data = null, best = null, generators } = readJsonObject(path);
  if (version !== VERSION) {
    throw new UserError(
      `${path}: version is ${excerpt(version)} (expected ${VERSION}). Resume with the program that wrote it.`,
    );
  }
  if (!isCount(step)) throw badField(path, "step", step, "a whole number of at least 0");
  if (!isRecord(batches) || !isCount(batches.epoch) || !isCount(batches.position)) {
    throw badField(path, "batches", batches, "{ epoch, position }, whole numbers of at least 0");
  }
  if (!isRecord(settings)) throw badField(path, "settings", settings, "an object");
  if (generators !== null && !isTextRecord(generators)) {
    throw badField(path, "generators", generators, "null or an object of base64 texts");
  }
  const { epoch, position } = batches;
  return { step, batches: { epoch, position }, settings, data, best, generators };
}

function restoreTensors(path: string, tensors: NamedTensor[]): void {
  const file = openSafetensors(path);
  try {
    for (const named of tensors) checkFits(file, named);
    const wanted = new Set(tensors.map(({ name }) => name));
    const extra = [...file.entries.keys()].find((name) => !wanted.has(name));
    if (extra !== undefined) throw unlike(file, extra, "saved, but not part of this run's optimiser");
    for (const { name, tensor, part } of tensors) {
      scope(() => {
        const saved = file.read(name);
        const own = part ? narrow(view(saved, [-1]), 0, part.first, numel(tensor)) : saved;
        void copy_(tensor, reshape(own, shape(tensor)));
      });
      const found = notFinite(tensor);
      if (found === undefined) continue;
      throw new UserError(
        `${path}: ${name} holds ${found} (expected finite numbers): the optimizer state of this checkpoint is damaged. Resume from another checkpoint.`,
      );
    }
  } finally {
    file.close();
  }
}

function checkFits(file: SafetensorsFile, named: NamedTensor): void {
  const { name, tensor } = named;
  const entry = file.entries.get(name);
  if (!entry) throw unlike(file, name, "not saved");
  const saved = `${entry.dtype} [${entry.shape.join(", ")}]`;
  const needed = `${dtype(tensor)} [${wholeShape(named).join(", ")}]`;
  if (saved !== needed) throw unlike(file, name, `saved as ${saved}, but ${needed} in this run`);
}

const unlike = (file: SafetensorsFile, name: string, problem: string): UserError =>
  new UserError(
    `${file.path}: ${name}: ${problem}. Resume with the model and optimizer settings that the run was started with.`,
  );

/** The full states of these devices' generators, as a checkpoint keeps them. */
export function generatorStates(devices: string[]): Record<string, string> {
  return Object.fromEntries(
    devices.map((device) =>
      scope(() => {
        const state = generatorState(device);
        const bytes = Buffer.alloc(byteSize(state));
        readBytes(state, 0, bytes);
        return [device, bytes.toString("base64")];
      }),
    ),
  );
}

/** Sets the generators to the states that `generatorStates` returned. */
export function restoreGenerators(states: Record<string, string>): void {
  for (const [device, text] of Object.entries(states)) {
    const bytes = Buffer.from(text, "base64");
    scope(() => setGeneratorState(fromArray(bytes, [bytes.length], "uint8"), device));
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isTextRecord = (value: unknown): value is Record<string, string> =>
  isRecord(value) && Object.values(value).every((text) => typeof text === "string");
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const badField = (path: string, key: string, value: unknown, expected: string): UserError =>
  new UserError(`${path}: "${key}" is ${excerpt(value)} (expected ${expected}). Resume from another checkpoint.`);
