// From a model's source to a model. Every tensor is matched against config.json before the first byte is read, so a
// folder that does not fit fails at once, with all differences counted. Weights are copied tensor by tensor from the
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
   * "auto" keeps a tensor's dtype if it is float32 or bfloat16 on disk, else takes float32 (float16 has too little
   * range for training). A stack of experts of both dtypes becomes float32.
   */
  weightsDtype: "auto" | DType;
  device: string;
  /** Adds parameters to the family. If the weights have none of them, they are made from `seed`. */
  extend?: (architecture: Architecture) => Architecture;
  seed?: number;
  /** Gives the parameters their places; memory of `device` by default. */
  allocate?: Allocate;
  /** The rows that this process reads, of a model that several share. Called when everything is allocated. */
  held?: HeldRows;
  /** Whether files of weights are compared with their checksums, if there are any; true by default. */
  verify?: boolean;
}

const FLOATS: DType[] = ["float32", "bfloat16", "float16", "float64"];
const SHOWN = 5;
/** Up to this many missing tensors are still counted by name. */
const MANY = 10_000;

/**
 * The model of `from`, a source or its path, in its own memory; the caller frees it with `freeModel`. Tensors that pass
 * through are kept. Ignored: stored rotary frequencies, and the head if it is tied to the embedding. Errors: UserError
 * that names tensors that are missing, of another shape, extra, or changed since they were saved.
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

/** The dtype in which pieces are stacked. */
export function dtypeOnDisk(folder: Folder, pieces: DiskTensor[]): DType {
  return pieces.every(({ name }) => folder.tensors.get(name)?.dtype === "bfloat16") ? "bfloat16" : "float32";
}

/** bfloat16 if all tensors of a folder are, else float32. */
export const commonDtype = (folder: Folder): DType =>
  [...folder.tensors.values()].every(({ dtype }) => dtype === "bfloat16") ? "bfloat16" : "float32";

/** Whether this is an adapter, and the folder has no adapters at all. */
const isNewAdapter = (folder: Folder, { spec }: PlacedParameter): boolean =>
  spec.adapter !== undefined && ![...folder.tensors.keys()].some(isAdapterName);

const isAdapterName = (name: string): boolean => name.includes(".adapters.");

/**
 * The tensors on disk that make up each parameter, by its full name; each may have its own layout. Errors: UserError as
 * `loadModel`.
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
  // A folder with adapters holds the ordinary network, too: its weights without them.
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

/** Refuses settings that describe far more tensors than there are, before all their names are made. */
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
