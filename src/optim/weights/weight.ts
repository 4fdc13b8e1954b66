// A stored weight as optimisers see it: float32 values, read and changed tile by tile. How they are stored is decided
// here: in float32 as they are; in bfloat16 with stochastic rounding; in bfloat16 with a correction that makes 24 bits.
import { cast, copy_ } from "../../torch/ops.js";
import { device, dtype, type Tensor } from "../../torch/tensor.js";
import { joinCorrection, splitCorrection } from "./correction.js";
import { roundingNoise, roundStochastically } from "./rounding.js";
import { mostAtOnce, range } from "../tiles.js";

export interface Weight {
  /** The values of a range as float32, not to be changed. Belongs to the scope. */
  read(start: number, count: number): Tensor;
  /** Lets `change` work in place on the float32 values of a range, and stores them. */
  edit(start: number, count: number, change: (w_N: Tensor) => void): void;
}

/**
 * The weight in `parameter`; with `correction` (int8, one per element), bfloat16 and correction together are the weight.
 * What it needs to round belongs to the scope it is opened in.
 */
export function openWeight(parameter: Tensor, correction?: Tensor): Weight {
  const stored = (start: number, count: number): Tensor => range(parameter, start, count);
  if (correction !== undefined) {
    const read = (start: number, count: number): Tensor =>
      joinCorrection(stored(start, count), range(correction, start, count));
    const edit: Weight["edit"] = (start, count, change) => {
      const w_N = read(start, count);
      change(w_N);
      splitCorrection(w_N, stored(start, count), range(correction, start, count));
    };
    return { read, edit };
  }
  const read = (start: number, count: number): Tensor => cast(stored(start, count), "float32");
  if (dtype(parameter) === "float32") return { read, edit: (start, count, change) => change(stored(start, count)) };
  const noise = dtype(parameter) === "bfloat16" ? roundingNoise(mostAtOnce(parameter), device(parameter)) : null;
  const store = (w_N: Tensor, into: Tensor): void =>
    void (noise === null ? copy_(into, w_N) : roundStochastically(w_N, into, noise));
  return {
    read,
    edit: (start, count, change) => {
      const w_N = read(start, count);
      change(w_N);
      store(w_N, stored(start, count));
    },
  };
}
