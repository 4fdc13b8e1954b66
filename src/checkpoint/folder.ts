// A Hugging Face folder as one set of named tensors, whether its weights are one file or shards with an index; and its
// config.json. The folder object owns the mappings of its files until `close`.
import { existsSync, lstatSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";

import { excerpt, UserError } from "../errors.js";
import { readWholeFile, reading, statOf } from "../read-file.js";
import type { Folder } from "./model-files.js";
import type { Quantisation } from "./quantised/format.js";
import { readQuantisation } from "./quantised/registry.js";
import { openSafetensors, type SafetensorsFile, type TensorEntry } from "./safetensors/file.js";
import { familyConfig } from "./trained-form.js";

export const SINGLE_FILE = "model.safetensors";
/** Most levels of nested JSON; config.json has four. */
const DEEPEST = 50;
export const INDEX_FILE = "model.safetensors.index.json";
/** Files of a checkpoint-N, beside the model. */
export const STATE_FILE = "trainer_state.json";
export const OPTIMIZER_FILE = "optimizer.safetensors";

const SHARD = /^model-\d{5,}-of-\d{5,}\.safetensors$/;

/** Whether a reader takes a file as weights, or as the state of a run, because of its name. */
export const isWeightsName = (name: string): boolean => name === SINGLE_FILE || name === INDEX_FILE || SHARD.test(name);
export const isStateName = (name: string): boolean => name === STATE_FILE || name === OPTIMIZER_FILE;

export interface ReadConfig {
  /** The parsed config.json in the family's own form, as for weights that are not quantised. */
  config: Record<string, unknown>;
  /** Its path, for errors about it. */
  path: string;
  /** How the weights beside it are decoded; null if they are floats, or in a format that we do not know. */
  quantisation: Quantisation | null;
}

/** The config.json of a folder. */
export function readConfig(dir: string): ReadConfig {
  checkFolder(dir);
  const path = join(dir, "config.json");
  if (!existsSync(path)) {
    const gguf = reading(dir, () => readdirSync(dir)).find((name) => /\.gguf$/i.test(name));
    throw new UserError(
      `${dir}: ${isLink(path) ? "config.json is a link that leads nowhere" : "no config.json"} (expected the folder of a Hugging Face checkpoint).${gguf ? ` Give the file itself: ${join(dir, gguf)}.` : ""}`,
    );
  }
  const config = readJsonObject(path);
  if (
    typeof config.train_file === "string" &&
    typeof config.output_dir === "string" &&
    config.model_type === undefined
  ) {
    const part = existsSync(join(dir, "final")) ? join(dir, "final") : `a checkpoint-N in ${dir}`;
    throw new UserError(`${dir}: is the folder of a run (expected a model's). Give what the run saved: ${part}.`);
  }
  return { path, ...readQuantisation(familyConfig(config), path) };
}

/** The same for a config.json without a folder. */
export const readConfigFile = (path: string): ReadConfig => ({
  path,
  ...readQuantisation(readJsonObject(path), path),
});

/** All tensors of a folder's weights as they lie on disk; reads only headers. */
export function openFolder(dir: string): Folder {
  checkFolder(dir);
  if (existsSync(join(dir, SINGLE_FILE))) {
    const file = openSafetensors(join(dir, SINGLE_FILE));
    return { dir, tensors: file.entries, read: file.read, close: file.close };
  }
  if (existsSync(join(dir, INDEX_FILE))) return openShards(dir);
  const pickled = reading(dir, () => readdirSync(dir)).find((name) =>
    /^pytorch_model.*\.bin(\.index\.json)?$/.test(name),
  );
  throw new UserError(
    pickled
      ? `${dir}: ${pickled} but no ${SINGLE_FILE}. Convert it: load it in transformers and call save_pretrained.`
      : `${dir}: no weights (expected ${SINGLE_FILE}, or ${INDEX_FILE} with its shards). Plans need no weights: give them the file config.json in place of its folder.`,
  );
}

/** A JSON file that must hold an object. Errors: UserError that names the file. */
export const readJsonObject = (path: string): Record<string, unknown> =>
  parseJsonObject(() => readWholeFile(path).toString("utf8"), path);

/** The same for a text from anywhere; `path` is its name in errors. */
export function parseJsonObject(text: () => string, path: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text());
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    throw new UserError(`${path}: cannot be read as JSON: ${(failure as Error).message.slice(0, 200)}.`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new UserError(`${path}: holds ${excerpt(parsed, 40)} (expected a JSON object).`);
  }
  if (isDeep(parsed))
    throw new UserError(
      `${path}: is nested more than ${DEEPEST} levels deep, which no file of its kind is. Download it again.`,
    );
  return parsed as Record<string, unknown>;
}

/** Whether a value is nested so deeply that code which copies or compares it would run out of stack. */
function isDeep(value: object): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; depth <= DEEPEST; depth++) {
    level = level.flatMap((each) =>
      Object.values(each as object).filter((item) => typeof item === "object" && item !== null),
    );
    if (level.length === 0) return false;
  }
  return true;
}

const isLink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;

function checkFolder(dir: string): void {
  const stats = statOf(dir);
  if (!stats)
    throw new UserError(`${dir}: no such folder. Check the path: a model is the folder of a Hugging Face checkpoint.`);
  if (stats.isDirectory()) return;
  const hint = /\.gguf$/i.test(dir)
    ? "This needs the folder that a .gguf file was made from"
    : "Check the path; the name of a GGUF file ends in .gguf";
  throw new UserError(`${dir}: is a file (expected the folder of a Hugging Face checkpoint). ${hint}.`);
}

function openShards(dir: string): Folder {
  const weightMap = readWeightMap(join(dir, INDEX_FILE));
  const files = new Map<string, SafetensorsFile>();
  const close = (): void => {
    for (const file of files.values()) file.close();
  };
  try {
    const fileOf = new Map<string, SafetensorsFile>();
    for (const shard of new Set(weightMap.values())) {
      if (!existsSync(join(dir, shard)))
        throw new UserError(
          `${dir}: ${shard.slice(0, 300)} is missing, but ${INDEX_FILE} names it. Download it again.`,
        );
      const file = openSafetensors(join(dir, shard));
      files.set(shard, file);
      // Tensors that the index does not list are kept, so that the loader can refuse them by name.
      for (const name of file.entries.keys()) fileOf.set(name, file);
    }
    const tensors = new Map<string, TensorEntry>();
    for (const [name, shard] of weightMap) {
      const file = files.get(shard) as SafetensorsFile;
      if (!file.entries.has(name))
        throw new UserError(`${dir}: ${INDEX_FILE} places ${name} in ${shard}, which lacks it. Download both again.`);
      fileOf.set(name, file);
    }
    for (const [name, file] of fileOf) tensors.set(name, file.entries.get(name) as TensorEntry);
    return { dir, tensors, read: (name) => (fileOf.get(name) as SafetensorsFile).read(name), close };
  } catch (failure) {
    close();
    throw failure;
  }
}

function readWeightMap(path: string): Map<string, string> {
  const { weight_map: stated } = readJsonObject(path);
  if (typeof stated !== "object" || stated === null || Array.isArray(stated) || Object.keys(stated).length === 0) {
    throw new UserError(`${path}: weight_map is ${excerpt(stated, 40)} (expected an object from tensor to file).`);
  }
  const map = new Map(Object.entries(stated) as [string, unknown][]);
  for (const [name, shard] of map) {
    if (
      typeof shard !== "string" ||
      [".", "..", ""].includes(shard) ||
      basename(shard) !== shard ||
      shard.includes("\0")
    ) {
      throw new UserError(
        `${path}: weight_map places ${name.slice(0, 300)} in ${excerpt(shard)} (expected the name of a file in this folder).`,
      );
    }
  }
  return map as Map<string, string>;
}
