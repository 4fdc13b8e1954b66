// From a Hugging Face folder to a model. Every tensor is matched against config.json before the first byte is read, so
// a folder that does not fit fails at once, with every difference counted. Weights are copied tensor by tensor from the
// mapped files, experts straight into their slice of the stacked tensor: the peak is the model plus at most one tensor.
import { UserError } from "../errors.js";
import { type Architecture, architectureOf, type ModelConfig } from "../model/architecture.js";
import { buildModel, type Model, placedParameters } from "../model/model.js";
import { copy_ } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { type DType, empty, type Tensor } from "../torch/tensor.js";
import { type Folder, openFolder, readConfig } from "./folder.js";
import { type DiskTensor, diskTensors, fullName, viewOf } from "./layout.js";

export interface LoadOptions {
  /**
   * "auto" takes each tensor as it is on disk if it is float32 or bfloat16, and as float32 otherwise (float16 has too
   * little range to be trained in). Experts that are stacked from both kinds become float32.
   */
  weightsDtype: "auto" | DType;
  device: string;
}

const FLOATS: DType[] = ["float32", "bfloat16", "float16", "float64"];
const SHOWN = 5;

/**
 * The model in the folder `dir`, in memory of its own; the caller frees it with `freeModel`.
 * Throws a UserError that names what is missing, of another shape, or extra. Ignored extras: stored rotary frequencies,
 * and the head when it is tied to the embedding.
 */
export function loadModel(dir: string, { weightsDtype, device }: LoadOptions): Model {
  const { config: source, path } = readConfig(dir);
  const architecture = architectureOf(source, path);
  const config = architecture.readConfig(source, path);
  const folder = openFolder(dir);
  const made: Tensor[] = [];
  try {
    const matched = matchTensors(folder, architecture, config);
    return buildModel(architecture, config, (placed) => {
      const pieces = matched.get(fullName(placed)) as DiskTensor[];
      const dtype = weightsDtype === "auto" ? dtypeOnDisk(folder, pieces) : weightsDtype;
      const parameter = keep(empty(placed.spec.shape, dtype, device));
      made.push(parameter);
      for (const piece of pieces) scope(() => void copy_(viewOf(parameter, piece), folder.read(piece.name)));
      return parameter;
    });
  } catch (failure) {
    free(...made);
    throw failure;
  } finally {
    folder.close();
  }
}

function dtypeOnDisk(folder: Folder, pieces: DiskTensor[]): DType {
  return pieces.every(({ name }) => folder.tensors.get(name)?.dtype === "bfloat16") ? "bfloat16" : "float32";
}

/**
 * For each parameter by its full name, the tensors on disk that make it up; the layout is found out for each one. Errors:
 * UserError as `loadModel`.
 */
export function matchTensors(folder: Folder, architecture: Architecture, config: ModelConfig): Map<string, DiskTensor[]> {
  const matched = new Map<string, DiskTensor[]>();
  const missing: string[] = [];
  const unfit: string[] = [];
  const known = new Set<string>();
  for (const placed of placedParameters(architecture, config)) {
    const pieces = diskTensors(placed, folder.tensors.has(fullName(placed)) ? "fused" : "per-expert");
    matched.set(fullName(placed), pieces);
    for (const { name, shape } of pieces) {
      known.add(name);
      const found = folder.tensors.get(name);
      if (!found) missing.push(name);
      else if (found.shape.join() !== shape.join()) {
        unfit.push(`${name}: shape [${found.shape.join(", ")}] in the checkpoint, [${shape.join(", ")}] by config.json`);
      } else if (!FLOATS.includes(found.dtype)) {
        unfit.push(`${name}: ${found.dtype} in the checkpoint (expected ${FLOATS.join(", ")})`);
      }
    }
  }
  const extra = [...folder.tensors.keys()].filter((name) => !known.has(name) && !isIgnorable(name, config));
  const lists = [describe("missing", missing), describe("unfit", unfit), describe("extra", extra)].filter((list) => list !== "");
  if (lists.length > 0) {
    throw new UserError(`${folder.dir}: the weights do not fit config.json. ${lists.join(" ")} Check that both belong to one model.`);
  }
  return matched;
}

const isIgnorable = (name: string, config: ModelConfig): boolean =>
  name.endsWith("rotary_emb.inv_freq") || (config.tieEmbeddings && name === "lm_head.weight");

function describe(kind: string, found: string[]): string {
  if (found.length === 0) return "";
  const rest = found.length > SHOWN ? `; and ${found.length - SHOWN} more` : "";
  return `${found.length} ${kind}: ${found.slice(0, SHOWN).join("; ")}${rest}.`;
}
