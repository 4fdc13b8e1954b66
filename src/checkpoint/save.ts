// From a model to a Hugging Face folder: config.json, weights in one file or in shards with an index, and the
// tokenizer's files unchanged. Tensors are read one at a time, so saving takes no memory beyond one tensor. Then the
// folder is opened again and every byte compared before it takes its place. Does not free the model.
import type { Layout } from "../model/architecture.js";
import { join } from "node:path";

import { assert, UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import {
  allRows,
  type Model,
  parameterOf,
  placedParameters,
  type PlacedParameter,
  storedDtype,
} from "../model/model.js";
import { cast } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type Rows, type DType, dtype as dtypeOf, type Tensor } from "../torch/tensor.js";
import { configText, olderKeys } from "./config-text.js";
import { writeFileDurably } from "./files/disk.js";
import { checkFinite } from "./finite.js";
import { INDEX_FILE, SINGLE_FILE } from "./folder.js";
import { diskTensors, fullName, pieceWithin, valueOnDisk } from "./layout.js";
import { type Replaced, saveFolder } from "./files/save-folder.js";
import { byteLength } from "./safetensors/header.js";
import { sourceBytes, type TensorSource, writeSafetensors } from "./safetensors/writer.js";
import { copiedFiles, type ModelFiles } from "./source.js";
import { compareFolder } from "./verify.js";

export interface WriteOptions {
  /** Where the model came from: its tokenizer and generation files are copied. */
  source: ModelFiles;
  /** Most bytes of a file of weights, 5e9 by default; a larger tensor gets a file of its own. */
  maxShardBytes?: number;
  /** Writes further files into the folder before it takes its place. */
  extraFiles?: (side: string) => void;
  /** Whether the written weights are read again and compared; true by default. */
  verify?: boolean;
  /** What may be replaced; "ours" by default. */
  replaced?: Replaced;
}

export interface SaveOptions extends WriteOptions {
  /** How experts lie on disk; by default "per-expert", which every loader reads. */
  layout?: Layout;
  /** The dtype on disk; by default each parameter's own. */
  dtype?: DType;
  /** Reads rows of a parameter, for the caller's scope, if the model here may lack them. */
  readRows?: ReadRows;
}

type ReadRows = (placed: PlacedParameter, rows: Rows) => Tensor;

export interface FolderContent {
  tensors: TensorSource[];
  /** The source's config.json except for the dtype; `addedKeys` are added to the written one. */
  config: Record<string, unknown>;
  addedKeys?: Record<string, unknown>;
  /** Called with every tensor as it is written, on its own device. */
  check?: (value: Tensor, name: string) => void;
}

/**
 * Saves a model as the folder `dir`. Afterwards the folder is complete or, after a failure, as it was before. Returns
 * notes on a person's files that were there. Errors: NotFiniteError for a weight that is not finite; else UserError.
 */
export function saveModel(dir: string, model: Model, options: SaveOptions): string[] {
  return saveFolder(dir, (side) => writeModel(side, dir, model, options), options.replaced);
}

function writeModel(folder: string, dir: string, model: Model, options: SaveOptions): void {
  const { layout = "per-expert", dtype, readRows } = options;
  const { source: config } = model.architecture;
  const addedKeys = layout === "per-expert" ? olderKeys(config) : {};
  const passed = model.passed?.tensors ?? [];
  const isPassed = new Set(passed.map(({ name }) => name));
  const check = (value: Tensor, name: string): void => {
    if (!isPassed.has(name)) checkFinite(value, name, dir);
  };
  const tensors = [...modelTensors(model, { layout, dtype, readRows }), ...passed];
  writeContent(folder, { tensors, config, addedKeys, check }, options);
}

/** Fills `folder` with a checkpoint of `tensors`, which are read one at a time: once to write and once to compare. */
export function writeContent(
  folder: string,
  { tensors, config, addedKeys, check }: FolderContent,
  options: WriteOptions,
): void {
  const { source, maxShardBytes = 5e9, extraFiles, verify = true } = options;
  writeFileDurably(join(folder, "config.json"), configText(source, config, mainDtype(tensors), addedKeys));
  for (const [name, bytes] of copiedFiles(source)) writeFileDurably(join(folder, name), bytes);
  writeWeights(folder, check ? tensors.map((source) => checkedSource(source, check)) : tensors, maxShardBytes);
  extraFiles?.(folder);
  if (verify) compareFolder(folder, tensors);
}

function checkedSource(source: TensorSource, check: (value: Tensor, name: string) => void): TensorSource {
  const read = (): Tensor => {
    const value = source.read();
    check(value, source.name);
    return value;
  };
  return { ...source, read };
}

/** A model's parameters under their names on disk, in the order of the forward pass; each is made when it is read. */
export function modelTensors(
  model: Model,
  options: { layout: Layout; dtype?: DType; readRows?: ReadRows },
): TensorSource[] {
  return placedParameters(model.architecture).flatMap((placed) => {
    const parameter = parameterOf(model, placed);
    assert(parameter !== undefined, `the model has no parameter ${fullName(placed)}`);
    const dtype = storedDtype(placed, options.dtype ?? dtypeOf(parameter));
    return diskTensors(placed, options.layout).map((piece): TensorSource => {
      const all = allRows(placed);
      const rows = options.readRows && piece.slice ? { first: piece.slice.expert, count: 1 } : all;
      const read = (): Tensor =>
        cast(
          valueOnDisk(options.readRows?.(placed, rows) ?? parameter, pieceWithin(piece, rows) as typeof piece),
          dtype,
        );
      return { name: piece.name, shape: piece.shape, dtype, read: () => scope(read) };
    });
  });
}

function writeWeights(folder: string, tensors: TensorSource[], maxShardBytes: number): void {
  if (!(maxShardBytes >= 1))
    throw new UserError(`maxShardBytes: is ${maxShardBytes} (expected at least 1; ${formatBytes(5e9)} is usual).`);
  const shards = splitIntoShards(tensors, maxShardBytes);
  const metadata = { format: "pt" };
  if (shards.length === 1) {
    writeSafetensors(join(folder, SINGLE_FILE), tensors, metadata);
    return;
  }
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const number = (value: number): string => String(value).padStart(5, "0");
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    for (const { name } of shard) weightMap[name] = file;
    writeSafetensors(join(folder, file), shard, metadata);
  }
  const index = { metadata: { total_size: sourceBytes(tensors) }, weight_map: weightMap };
  writeFileDurably(join(folder, INDEX_FILE), `${JSON.stringify(index, null, 2)}\n`);
}

function splitIntoShards(tensors: TensorSource[], maxShardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = [[]];
  let room = maxShardBytes;
  for (const tensor of tensors) {
    const bytes = byteLength(tensor.dtype, tensor.shape);
    if (bytes > room && shards[shards.length - 1].length > 0) {
      shards.push([]);
      room = maxShardBytes;
    }
    shards[shards.length - 1].push(tensor);
    room -= bytes;
  }
  return shards;
}

/** The dtype of most of the floats' bytes. */
export function mainDtype(tensors: TensorSource[]): DType {
  const bytes = new Map<DType, number>();
  // Packed tensors have no dtype of config.json.
  const floats = tensors.filter(({ dtype }) => dtype !== "uint8");
  for (const { dtype, shape } of floats) bytes.set(dtype, (bytes.get(dtype) ?? 0) + byteLength(dtype, shape));
  return [...bytes].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
}
