// A stored weight as optimisers see it: float32 values, read and changed tile by tile. How they are stored is decided
// here: in float32 as they are; in bfloat16 with stochastic rounding; in bfloat16 with a correction that makes 24 bits.
import { hasKernels } from "../../torch/kernels/kernels.js";
import { cast, copy_, type StoredArgs, storeWeight_ } from "../../torch/ops.js";
import { device, dtype, type Tensor } from "../../torch/tensor.js";
import { joinCorrection, splitCorrection } from "./correction.js";
import { roundingNoise, roundingSeed, roundStochastically } from "./rounding.js";
import { mostAtOnce, range } from "../tiles.js";

export interface Weight {
  /** For kernels, which load and store elements themselves: the arguments of elements from `start` on. Null where there are none, or they do not know the dtype. */
  stored: ((start: number, count: number) => StoredArgs) | null;
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
  const part = (start: number, count: number): Tensor => range(parameter, start, count);
  const stored = storedFor(parameter, correction);
  if (correction !== undefined) {
    const read = (start: number, count: number): Tensor =>
      joinCorrection(part(start, count), range(correction, start, count));
    const edit: Weight["edit"] = (start, count, change) => {
      const w_N = read(start, count);
      change(w_N);
      splitCorrection(w_N, part(start, count), range(correction, start, count));
    };
    return { stored, read, edit };
  }
  const read = (start: number, count: number): Tensor => cast(part(start, count), "float32");
  if (dtype(parameter) === "float32")
    return { stored, read, edit: (start, count, change) => change(part(start, count)) };
  const noise = roundsHere(parameter) ? roundingNoise(mostAtOnce(parameter), device(parameter)) : null;
  const store = (w_N: Tensor, start: number, count: number): void => {
    if (noise !== null) roundStochastically(w_N, part(start, count), noise);
    else if (stored !== null) storeWeight_(...stored(start, count), w_N);
    else copy_(part(start, count), w_N);
  };
  return {
    stored,
    read,
    edit: (start, count, change) => {
      const w_N = read(start, count);
      change(w_N);
      store(w_N, start, count);
    },
  };
}

/** Whether stochastic rounding takes libtorch's operators. */
const roundsHere = (parameter: Tensor): boolean => dtype(parameter) === "bfloat16" && !hasKernels(device(parameter));

function storedFor(parameter: Tensor, correction: Tensor | undefined): Weight["stored"] {
  const type = dtype(parameter);
  if (!hasKernels(device(parameter)) || (type !== "float32" && type !== "bfloat16")) return null;
  const seed = type === "bfloat16" && correction === undefined ? roundingSeed() : 0;
  return (start, count) => [
    range(parameter, start, count),
    correction === undefined ? null : range(correction, start, count),
    seed,
    start,
  ];
}
