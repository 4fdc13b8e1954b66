// From one checkpoint folder to another with the same weights, as the ordinary network or as the trained one: with
// other names, another dtype, other shards. Tensors go from the mapped source to the file one at a time, so the peak is
// one tensor, or one stack of experts. The written folder is opened again, and every tensor is compared bit for bit,
// before it takes its place.
import type { Architecture, Layout } from "../model/architecture.js";
import { isDeepStrictEqual } from "node:util";

import { UserError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import { type PlacedParameter, placedParameters } from "../model/model.js";
import { cast, copy_, select } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype as dtypeOf, empty, type Tensor } from "../torch/tensor.js";
import { checkWeightFiles } from "./files/check-files.js";
import { olderKeys } from "./config-text.js";
import { checkFreeSpace } from "./files/disk.js";
import { largestSize } from "./finite.js";
import { readConfig } from "./folder.js";
import type { Folder, StoredTensor } from "./model-files.js";
import { type DiskTensor, diskTensors, fullName, viewOf } from "./layout.js";
import { matchTensors } from "./load.js";
import { BLOCKS, SCALES } from "./quantised/mxfp4.js";
import { packedSources, QUANTIZATION_CONFIG } from "./quantised/mxfp4-pack.js";
import { passingNote, passingSources } from "./pass-through.js";
import { checkPlaceBesideModel } from "./files/places.js";
import { mainDtype, writeContent } from "./save.js";
import { checkReplaceable, saveFolder } from "./files/save-folder.js";
import { openSource, sourceNotes } from "./source.js";
import { sourceBytes, type TensorSource } from "./safetensors/writer.js";
import { copyModeling, trainedConfig, type TrainedForm } from "./trained-form.js";

export interface ExportOptions {
  /** With "per-expert", config.json also says what transformers 4 needs, see `olderKeys`. */
  layout: Layout;
  /**
   * "auto" keeps every tensor's dtype, but a stack of experts of several dtypes becomes float32. "mxfp4" packs experts;
   * all else is bfloat16.
   */
  dtype: "auto" | "mxfp4" | DType;
  maxShardBytes: number;
  /** Whether `dir` may be a folder that this program saved, which is then replaced; if not, it must be new or empty. */
  overwrite?: boolean;
  /** Writes the trained network, in the form that transformers loads; without it, the ordinary network. */
  trained?: TrainedForm;
}

export interface Exported {
  /** The dtype of most bytes, without packed ones. */
  dtype: DType;
  tensors: number;
  bytes: number;
  /** Tensors of the source that are not written: rotary frequencies, and the head if it is tied. */
  leftOut: string[];
  /** Keys added to config.json for transformers 4. */
  addedKeys: string[];
  /**
   * Notes on tensors that pass through, on links that were not copied, and on a person's files in the replaced folder.
   */
  notes: string[];
}

/** Largest finite value of each dtype; anything larger would become infinite. */
const LARGEST: Partial<Record<DType, number>> = {
  float16: 65504,
  bfloat16: 2 ** 127 * (2 - 2 ** -7),
  float32: 2 ** 127 * (2 - 2 ** -23),
  float64: Number.MAX_VALUE,
};

/**
 * Writes the model in `source` as the folder `dir`. Afterwards the folder is complete or, after a failure, as it was
 * before. Errors: UserError as `loadModel`; when a weight is not finite or not representable; when `dir` may not be
 * replaced; when the disk has no room.
 */
export function exportFolder(dir: string, source: string, options: ExportOptions): Exported {
  const from = openSource(source);
  const { config: stated, configPath: path } = from;
  const { trained, layout, maxShardBytes, overwrite = false } = options;
  const replaced = overwrite ? "ours" : "nothing";
  const family = readArchitecture(stated, path);
  const architecture = trained ? trained.extend(family) : family;
  if (options.dtype === "mxfp4") checkPackable(architecture, trained !== undefined, source);
  checkPlaceBesideModel(dir, source);
  checkReplaceable(dir, replaced);
  const folder = from.openWeights();
  try {
    const matched = matchTensors(folder, architecture);
    checkWeightFiles(source);
    const parameters = placedParameters(architecture).flatMap((placed) =>
      parameterSources(folder, placed, piecesOf(matched, placed, source), options),
    );
    const passing = passingSources(folder, architecture);
    const tensors = [...parameters, ...passing];
    checkFreeSpace(dir, sourceBytes(tensors));
    const older = layout === "per-expert" ? olderKeys(stated) : {};
    const quantised = options.dtype === "mxfp4" ? { quantization_config: QUANTIZATION_CONFIG } : {};
    const form = trained ? trainedConfig(stated, trained.network) : { config: stated, addedKeys: {} };
    const extraFiles = (side: string): void => {
      if (trained === undefined) return;
      copyModeling(side);
      trained.extraFiles(side);
    };
    const write = (side: string): void => {
      const content = { tensors, config: form.config, addedKeys: { ...older, ...quantised, ...form.addedKeys } };
      writeContent(side, content, { source: from, maxShardBytes, extraFiles });
      checkReopened(side, { ...stated, ...older });
    };
    const kept = saveFolder(dir, write, replaced);
    const used = new Set([...[...matched.values()].flat(), ...passing].map(({ name }) => name));
    return {
      dtype: mainDtype(tensors),
      tensors: tensors.length,
      bytes: sourceBytes(tensors),
      leftOut: [...folder.tensors.keys()].filter((name) => !used.has(name)),
      addedKeys: Object.keys(older),
      notes: [
        ...passingNote(passing, source),
        ...sourceNotes(options.dtype === "mxfp4" ? { ...from, decoding: undefined } : from),
        ...kept,
      ],
    };
  } finally {
    folder.close();
  }
}

/** Errors: an error if config.json reads back as another model. */
function checkReopened(folder: string, stated: Record<string, unknown>): void {
  const { config, path } = readConfig(folder);
  const differing = Object.keys(stated).find(
    (key) => !DTYPE_OR_CLASS.includes(key) && !isDeepStrictEqual(config[key], stated[key]),
  );
  if (differing === undefined) return;
  throw new UserError(
    `${path}: ${differing} reads back differently from what was saved. Check the disk and save again.`,
  );
}

/** Keys of config.json that an export changes. */
const DTYPE_OR_CLASS = ["dtype", "torch_dtype", "architectures"];

function piecesOf(matched: Map<string, DiskTensor[]>, placed: PlacedParameter, source: string): DiskTensor[] {
  const pieces = matched.get(fullName(placed));
  if (pieces) return pieces;
  throw new UserError(
    `${source}: has no ${fullName(placed)}, though its description says so. Export what a run wrote.`,
  );
}

/** The tensors to write for one parameter; `pieces` are those it has in the source. */
function parameterSources(
  folder: Folder,
  placed: PlacedParameter,
  pieces: DiskTensor[],
  options: ExportOptions,
): TensorSource[] {
  if (options.dtype === "mxfp4" && isPackable(placed)) return packedExperts(folder, pieces[0]);
  const asked = options.dtype === "mxfp4" ? "bfloat16" : options.dtype;
  const targets = diskTensors(placed, options.layout);
  const dtypeOnDisk = (piece: DiskTensor): DType => folder.tensors.get(piece.name)?.dtype as DType;
  const whole = pieces[0].slice === null;
  return targets.map((target, i): TensorSource => {
    const piece = whole ? pieces[0] : pieces[i];
    const own = target.slice === null ? commonDtype(pieces.map(dtypeOnDisk)) : dtypeOnDisk(piece);
    const dtype = asked === "auto" || placed.spec.buffer ? own : asked;
    const read = (): Tensor => {
      if (target.slice === null && !whole) return stack(folder, placed, pieces, dtype);
      const value = folder.read(piece.name);
      return cast(checked(whole ? viewOf(value, target) : value, dtype, piece.name, folder.dir), dtype);
    };
    return { name: target.name, shape: target.shape, dtype, read: () => scope(read) };
  });
}

const isPackable = ({ spec }: PlacedParameter): boolean =>
  spec.experts?.turned !== undefined && spec.shape.length === 3;

function checkPackable(architecture: Architecture, asTrained: boolean, source: string): void {
  const { modelType } = architecture;
  if (asTrained) throw new UserError(`dtype: mxfp4 is not read by the code of an export as trained. Use bfloat16.`);
  if (placedParameters(architecture).some(isPackable)) return;
  throw new UserError(
    `dtype: mxfp4 is how gpt_oss is released (${source} is ${modelType}), and no loader reads it of other families. Use bfloat16.`,
  );
}

/**
 * One stack in MXFP4. If it is packed in the source, its bytes are copied, since packing again gives the same values
 * but not always the same bytes.
 */
function packedExperts(folder: Folder, { name, shape }: DiskTensor): TensorSource[] {
  const released = [name + BLOCKS, name + SCALES].map((part) => [part, folder.packed?.tensors.get(part)] as const);
  if (released.every(([, found]) => found !== undefined)) {
    return released.map(([part, found]) => {
      const { dtype, shape } = found as StoredTensor;
      return { name: part, dtype, shape, read: () => (folder.packed as Folder).read(part) };
    });
  }
  return packedSources(name, shape, (expert) =>
    scope(() => checked(select(folder.read(name), 0, expert), "float32", name, folder.dir)),
  );
}

const commonDtype = (found: DType[]): DType => (found.every((each) => each === found[0]) ? found[0] : "float32");

function stack(folder: Folder, { spec }: PlacedParameter, pieces: DiskTensor[], dtype: DType): Tensor {
  const made = empty(spec.shape, dtype);
  for (const piece of pieces) {
    scope(() => void copy_(viewOf(made, piece), checked(folder.read(piece.name), dtype, piece.name, folder.dir)));
  }
  return made;
}

/** Returns the value, if `dtype` can hold all of it. */
function checked(value: Tensor, dtype: DType, name: string, source: string): Tensor {
  // With a NaN the size is NaN, and no comparison with it is true.
  const size = largestSize(value);
  const largest = LARGEST[dtype] ?? 0;
  if (size <= largest) return value;
  if (Number.isFinite(size)) {
    throw new UserError(
      `${source}: ${name} holds ${size.toPrecision(6)} (expected at most ${largest.toPrecision(6)}, the largest ${dtype}). ` +
        `Use dtype auto, which keeps ${dtypeOf(value)}.`,
    );
  }
  throw new UserError(
    `${source}: ${name} holds ${Number.isNaN(size) ? "NaN" : "an infinite value"} (expected finite weights). Export an earlier checkpoint.`,
  );
}
