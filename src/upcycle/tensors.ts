// From a dense checkpoint's tensors to those of the mixture, by name. Attention, norms, embeddings and dense layers
// stay the same; each expert is a copy, or a slice of a copy, of its layer's MLP. A tensor is made only when it is
// written, and again when it is compared. The caller keeps the dense folder open meanwhile.
import { type DiskTensor, diskTensors } from "../checkpoint/layout.js";
import type { Folder } from "../checkpoint/model-files.js";
import type { TensorSource } from "../checkpoint/safetensors/writer.js";
import { UserError } from "../errors.js";
import { type PlacedParameter, placedParameters } from "../model/model.js";
import {
  add,
  cast,
  expand,
  meanDim,
  mulScalar,
  narrow,
  normal_,
  reshape,
  square,
  sub,
  unsqueeze,
} from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, full, item, shape, type Tensor, zeros } from "../torch/tensor.js";
import type { TargetModel } from "./target.js";

export interface Drawing {
  /** Standard deviation of the router's weights. */
  routerStd: number;
  /** Standard deviation of the noise added to an expert's matrix, as a fraction of the matrix's own. */
  noise: number;
  seed: number;
}

/**
 * The mixture's tensors, one matrix per expert. Expert e is slice e mod G of copy floor(e / G) of the MLP, with G
 * slices in all (Sparse Upcycling, arXiv 2212.05055, with G = 1; virtual groups of arXiv 2410.07524). If a token picks
 * whole copies, the slices of a copy share a router row r, so they are picked together, each with the gate p(r) / (G
 * sum p); see `TargetModel.downScale`. A shared expert is a copy behind a gate of sigmoid(0) = 1/2. `weightsDtype`
 * "auto" is that of the dense tensors, or float32 if that is neither float32 nor bfloat16.
 */
export function upcycledTensors(
  folder: Folder,
  target: TargetModel,
  weightsDtype: "auto" | DType,
  drawing: Drawing,
): TensorSource[] {
  const read = checkedReader(folder);
  const dtypeOf = (name: string): DType => {
    if (weightsDtype !== "auto") return weightsDtype;
    return folder.tensors.get(name)?.dtype === "bfloat16" ? "bfloat16" : "float32";
  };
  let index = 0;
  return placedParameters(target.architecture).flatMap((placed) =>
    diskTensors(placed, "per-expert").map((piece): TensorSource => {
      const seed = seedFor(drawing.seed, index++);
      const from = denseName(placed, piece);
      const dtype = dtypeOf(folder.tensors.has(from) ? from : placed.prefix + NORM);
      const make = (): Tensor => {
        if (placed.spec.name === ROUTER) return routerRows(target, drawing.routerStd, seed);
        if (placed.spec.name === SHARED_GATE) return zeros(piece.shape, dtype);
        if (!folder.tensors.has(from)) return full(piece.shape, placed.spec.init === "ones" ? 1 : 0, dtype);
        if (!piece.slice) return read(from);
        const isDown = placed.spec.name === DOWN;
        const start = (piece.slice.expert % target.slices) * target.architecture.experts.width;
        const part = narrow(read(from), isDown ? 1 : 0, start, target.architecture.experts.width);
        const scaled = isDown && target.downScale !== 1 ? mulScalar(cast(part, "float32"), target.downScale) : part;
        return perturbed(scaled, drawing.noise, seed);
      };
      return { name: piece.name, shape: piece.shape, dtype, read: () => scope(() => cast(make(), dtype)) };
    }),
  );
}

const NORM = "post_attention_layernorm.weight";
const ROUTER = "mlp.gate.weight";
const SHARED_GATE = "mlp.shared_expert_gate.weight";
const DOWN = "mlp.experts.down_proj";

/** Name of the dense tensor that a tensor is made from; there may be no such tensor. */
function denseName({ prefix, spec }: PlacedParameter, { slice }: DiskTensor): string {
  if (!slice) return prefix + spec.name.replace("mlp.shared_expert.", "mlp.");
  const part = spec.name === DOWN ? "down_proj" : slice.firstRow === 0 ? "gate_proj" : "up_proj";
  return `${prefix}mlp.${part}.weight`;
}

function routerRows({ architecture, slices, wholeCopies }: TargetModel, std: number, seed: number): Tensor {
  const {
    hiddenSize: D,
    experts: { count: E },
  } = architecture;
  const repeats = wholeCopies ? slices : 1;
  setSeed(seed);
  const rows_ND = normal_(zeros([E / repeats, D], "float32"), 0, std);
  return reshape(expand(unsqueeze(rows_ND, 1), [E / repeats, repeats, D]), [E, D]);
}

function perturbed(matrix: Tensor, noise: number, seed: number): Tensor {
  if (noise === 0) return matrix;
  const exact = cast(matrix, "float32");
  const centred = sub(exact, meanDim(exact, [0, 1]));
  const std = Math.sqrt(item(meanDim(square(centred), [0, 1])));
  setSeed(seed);
  return add(exact, normal_(zeros(shape(exact), "float32"), 0, noise * std));
}

/** Reads tensors for the caller's scope; the first time, checks that all numbers are finite. */
function checkedReader(folder: Folder): (name: string) => Tensor {
  const seen = new Set<string>();
  return (name) => {
    const tensor = folder.read(name);
    if (!seen.has(name)) {
      const mean = scope(() => item(meanDim(cast(tensor, "float32"), [...shape(tensor).keys()])));
      if (!Number.isFinite(mean)) {
        throw new UserError(
          `${folder.dir}: ${name} holds a number that is not finite (expected weights of a sound model). Download it again.`,
        );
      }
      seen.add(name);
    }
    return tensor;
  };
}
