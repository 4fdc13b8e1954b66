// Stochastic rounding of float32 to bfloat16: the 16 dropped bits are the probability of rounding up, so an update
// smaller than half a step is not lost. Unbiased: E[rounded] = value. An element's random bits follow from a seed and
// its number, by the hash of native/kernels/numbers.h; so they do not depend on tiles, groups of experts or threads.
// This is the reference, in 64-bit whole numbers; it gives the same bits as the kernels.
import {
  add_,
  addScalar_,
  arange,
  bitAnd_,
  bitXor,
  bitXor_,
  cast,
  copy_,
  mulScalar,
  mulScalar_,
  select,
  shiftRight,
  view,
  viewDtype,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, numel, type Tensor } from "../../torch/tensor.js";

const LOW_32 = 2 ** 32 - 1;

/** Random bits for elements `first` to `first + count`, as int32 below 2^16. `seed`: a whole number in [0, 2^53). */
function randomBits(seed: number, first: number, count: number, on: string): Tensor {
  return scope(() => {
    const counter_N = arange(first, first + count, "int64", null, on);
    const x_N = bitAnd_(bitXor(counter_N, seed % 2 ** 32), LOW_32);
    const fold = (shift: number): Tensor => scope(() => bitXor_(x_N, shiftRight(x_N, shift)));
    const multiply = (factor: number): Tensor => bitAnd_(mulScalar_(x_N, factor), LOW_32);
    fold(16);
    multiply(0x7feb352d);
    fold(15);
    scope(() => void add_(x_N, mulScalar(shiftRight(counter_N, 32), 0x9e3779b9)));
    bitAnd_(addScalar_(x_N, Math.floor(seed / 2 ** 32)), LOW_32);
    multiply(0x846ca68b);
    fold(16);
    multiply(0x21f0aaad);
    fold(15);
    return cast(shiftRight(x_N, 16), "int32");
  });
}

/**
 * Adds 16 random bits below the kept ones and cuts. `first` is the number of the first element. May overwrite
 * `value_N`; the result goes to `into_N` (bfloat16).
 */
export function roundStochastically(value_N: Tensor, into_N: Tensor, seed: number, first: number): void {
  const count = numel(value_N);
  const sums_N = add_(viewDtype(value_N, "int32"), randomBits(seed, first, count, device(value_N)));
  // The upper half of each sum, as it lies in memory.
  copy_(viewDtype(into_N, "int16"), select(view(viewDtype(sums_N, "int16"), [count, 2]), 1, 1));
}
