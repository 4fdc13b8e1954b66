// From a model's source to a model. Every tensor is matched against config.json before the first byte is read, so
// a folder that does not fit fails at once, with every difference counted. Weights are copied tensor by tensor from the
// mapped files, experts straight into their slice of the stacked tensor: the peak is the model plus at most one tensor.
import { UserError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import { makeAdapter } from "../model/adapters.js";
import {
  type Allocate,
  allRows,
  buildModel,
  type HeldRows,
  inMemory,
  type Model,
  type PlacedParameter,
  placedParameters,
  storedDtype,
} from "../model/model.js";
import { copy_ } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import type { DType, Tensor } from "../torch/tensor.js";
import { checkWeightFiles } from "./files/check-files.js";
import { type DiskTensor, copyPiece_, diskTensors, fullName, nameOnDisk } from "./layout.js";
import type { Folder } from "./model-files.js";
import { passingFrom, passingNames } from "./pass-through.js";
import { type ModelSource, openSource } from "./source.js";

export interface LoadOptions {
  /**
   * "auto" takes each tensor as it is on disk if it is float32 or bfloat16, and as float32 otherwise (float16 has too
   * little range to be trained in). Experts that are stacked from both kinds become float32.
   */
  weightsDtype: "auto" | DType;
  device: string;
  /** Adds parameters to the family that the weights may lack; those that all lack are made from `seed`. */
  extend?: (architecture: Architecture) => Architecture;
  seed?: number;
  /** Where the parameters are to lie; memory of `device` unless said otherwise. */
  allocate?: Allocate;
  /** Of a model that several processes share, the rows that are read here. Asked for when all is allocated. */
  held?: HeldRows;
  /** Whether files of weights are compared with their checksums, where there are any; true unless said otherwise. */
  verify?: boolean;
}

const FLOATS: DType[] = ["float32", "bfloat16", "float16", "float64"];
const SHOWN = 5;
/** Missing tensors that are still counted by name. */
const MANY = 10_000;

/**
 * The model of `from`, a source or the path of one, in memory of its own; the caller frees it with `freeModel`.
 * Throws a UserError that names what is missing, of another shape, extra, or changed since it was saved. What passes through is kept; ignored extras: stored
 * rotary frequencies, and the head when it is tied to the embedding.
 */
export function loadModel(from: ModelSource | string, options: LoadOptions): Model {
  const { weightsDtype, device, extend = (as) => as, seed = 0, verify = true } = options;
  const { allocate = inMemory(device), held = allRows } = options;
  const source = typeof from === "string" ? openSource(from) : from;
  const architecture = extend(readArchitecture(source.config, source.configPath));
  const folder = source.openWeights();
  const made: Tensor[] = [];
  try {
    const matched = matchTensors(folder, architecture);
    if (verify) checkWeightFiles(source.path);
    const common = commonDtype(folder);
    const dtypeOf = (placed: PlacedParameter): DType => storedDtype(placed, weightDtypeOf(placed));
    const weightDtypeOf = (placed: PlacedParameter): DType => {
      if (weightsDtype !== "auto") return weightsDtype;
      return isNewAdapter(folder, placed) ? common : dtypeOnDisk(folder, matched.get(fullName(placed)) as DiskTensor[]);
    };
    const room = allocate(placedParameters(architecture).map((placed) => ({ placed, dtype: dtypeOf(placed) })));
    const model = buildModel(architecture, (placed) => {
      const parameter = room(placed);
      const index = made.push(parameter) - 1;
      const rows = held(placed);
      if (rows.count === 0) return parameter;
      if (isNewAdapter(folder, placed)) {
        scope(() => void copy_(parameter, makeAdapter(placed.spec, [seed, index], dtypeOf(placed), device)));
      } else {
        const pieces = matched.get(fullName(placed)) as DiskTensor[];
        for (const piece of pieces) copyPiece_(parameter, piece, folder, rows);
      }
      return parameter;
    });
    return { ...model, passed: passingFrom(source, architecture) };
  } catch (failure) {
    free(...made);
    throw failure;
  } finally {
    folder.close();
  }
}

/** The type in which pieces are stacked. */
export function dtypeOnDisk(folder: Folder, pieces: DiskTensor[]): DType {
  return pieces.every(({ name }) => folder.tensors.get(name)?.dtype === "bfloat16") ? "bfloat16" : "float32";
}

/** bfloat16 for a folder of bfloat16 alone. */
export const commonDtype = (folder: Folder): DType =>
  [...folder.tensors.values()].every(({ dtype }) => dtype === "bfloat16") ? "bfloat16" : "float32";

/** Whether this is an adapter, and the folder is of a model that never had any. */
const isNewAdapter = (folder: Folder, { spec }: PlacedParameter): boolean =>
  spec.adapter !== undefined && ![...folder.tensors.keys()].some(isAdapterName);

const isAdapterName = (name: string): boolean => name.includes(".adapters.");

/**
 * For each parameter by its full name, the tensors on disk that make it up; the layout is found out for each one. Errors:
 * UserError as `loadModel`.
 */
export function matchTensors(folder: Folder, architecture: Architecture): Map<string, DiskTensor[]> {
  const matched = new Map<string, DiskTensor[]>();
  const missing: string[] = [];
  const unfit: string[] = [];
  const known = new Set<string>();
  const placedAll = placedParameters(architecture);
  checkCount(folder, placedAll, architecture);
  for (const placed of placedAll) {
    if (isNewAdapter(folder, placed)) continue;
    const pieces = diskTensors(placed, folder.tensors.has(nameOnDisk(placed, "fused")) ? "fused" : "per-expert");
    matched.set(fullName(placed), pieces);
    for (const { name, shape } of pieces) {
      known.add(name);
      const found = folder.tensors.get(name);
      if (!found) missing.push(name);
      else if (found.shape.join() !== shape.join()) {
        unfit.push(
          `${name}: shape [${found.shape.join(", ")}] in the checkpoint, [${shape.join(", ")}] by config.json`,
        );
      } else if (!FLOATS.includes(found.dtype)) {
        unfit.push(`${name}: ${found.eightBits ?? found.dtype} in the checkpoint (expected ${FLOATS.join(", ")})`);
      }
    }
  }
  // The ordinary network of a folder with adapters is its weights without them.
  const ignorable = (name: string): boolean =>
    isIgnorable(name, architecture) || (!architecture.adapters && isAdapterName(name));
  const passing = new Set(passingNames(folder, architecture));
  const extra = [...folder.tensors.keys()].filter((name) => !known.has(name) && !passing.has(name) && !ignorable(name));
  const lists = [describe("missing", missing), describe("unfit", unfit), describe("extra", extra)].filter(
    (list) => list !== "",
  );
  if (lists.length > 0) {
    throw new UserError(
      `${folder.dir}: the weights do not fit config.json. ${lists.join(" ")} Check that both belong to one model.`,
    );
  }
  return matched;
}

/** Refuses settings of another order of size than the weights before the names of all their tensors are made. */
function checkCount(folder: Folder, placed: PlacedParameter[], { layers, experts }: Architecture): void {
  const described = placed.reduce((sum, { spec }) => sum + (spec.experts ? spec.shape[0] : 1), 0);
  const found = folder.tensors.size;
  // In the fused form one tensor holds all experts of a layer.
  if (described <= 2 * found + MANY || placed.length <= found) return;
  throw new UserError(
    `${folder.dir}: the weights do not fit config.json, which has ${layers.length} layers and ${experts.count} experts, ${described} tensors or more: ` +
      `there are ${found}. Check that both belong to one model.`,
  );
}

const isIgnorable = (name: string, { outer }: Architecture): boolean =>
  name.endsWith("rotary_emb.inv_freq") || (outer.head === null && name === "lm_head.weight");

function describe(kind: string, found: string[]): string {
  if (found.length === 0) return "";
  const rest = found.length > SHOWN ? `; and ${found.length - SHOWN} more` : "";
  return `${found.length} ${kind}: ${found.slice(0, SHOWN).join("; ")}${rest}.`;
}
