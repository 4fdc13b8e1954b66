// A stored weight as optimizers see it: float32 values, read and changed tile by tile. How they are stored is decided
// here: plain float32; bfloat16 with stochastic rounding; or bfloat16 with a correction that makes 24 bits.
import { hasKernels } from "../../torch/kernels/kernels.js";
import { add_, cast, copy_, move_, mulScalar_, type StoredArgs, storeWeight_ } from "../../torch/ops.js";
import { device, dtype, numel, type Tensor } from "../../torch/tensor.js";
import { joinCorrection, splitCorrection } from "./correction.js";
import { roundStochastically } from "./rounding.js";
import { range } from "../tiles.js";

export interface Weight {
  /** Arguments for kernels that load and store its elements. Null where there are no kernels, or none for its dtype. */
  readonly stored: StoredArgs | null;
  /** The values of a range as float32; do not change them. They belong to the scope. */
  read(start: number, count: number): Tensor;
  /** Lets `change` work in place on the float32 values of a range, and stores them. */
  edit(start: number, count: number, change: (w_N: Tensor) => void): void;
  /** w = keep w - rate u, for as many elements as `u_N` (float32, dense) has. */
  move(start: number, u_N: Tensor, keep: number, rate: number): void;
}

/** A weight that kernels can change. */
export type StoredWeight = Weight & { readonly stored: StoredArgs };

export interface WeightOptions {
  /** int8, one per element; with the bfloat16 it makes the weight. */
  correction?: Tensor;
  /**
   * Seed of the random bits of rounding, well mixed (`seedFor`): neighbouring seeds give neighbouring elements the same
   * bits.
   */
  seed: number;
  /** Number of the first element within the whole parameter, where `parameter` is a part of it. */
  first?: number;
}

/** Opens `parameter` as a weight. */
export function openWeight(parameter: Tensor, { correction, seed, first = 0 }: WeightOptions): Weight {
  const type = dtype(parameter);
  const hasStored = hasKernels(device(parameter)) && (type === "float32" || type === "bfloat16");
  const part = (start: number, count: number): StoredArgs => [
    range(parameter, start, count),
    correction === undefined ? null : range(correction, start, count),
    seed,
    first + start,
  ];
  const read = (start: number, count: number): Tensor => {
    const [w_N, correction_N] = part(start, count);
    return correction_N === null ? cast(w_N, "float32") : joinCorrection(w_N, correction_N);
  };
  const store = (value_N: Tensor, [w_N, correction_N, ...rounding]: StoredArgs): void => {
    if (correction_N !== null) splitCorrection(value_N, w_N, correction_N);
    else if (type !== "bfloat16") copy_(w_N, value_N);
    else if (hasStored) storeWeight_(w_N, correction_N, ...rounding, value_N);
    else roundStochastically(value_N, w_N, ...rounding);
  };
  const edit: Weight["edit"] = (start, count, change) => {
    if (type === "float32") return change(range(parameter, start, count));
    const w_N = read(start, count);
    change(w_N);
    store(w_N, part(start, count));
  };
  const move: Weight["move"] = (start, u_N, keep, rate) => {
    const count = numel(u_N);
    if (hasStored) return move_(...part(start, count), u_N, keep, rate);
    edit(start, count, (w_N) => {
      if (keep !== 1) mulScalar_(w_N, keep);
      add_(w_N, u_N, -rate);
    });
  };
  return { stored: hasStored ? [parameter, correction ?? null, seed, first] : null, read, edit, move };
}
