// A 24-bit weight as two tensors: a bfloat16, with which the network computes, and 8 further bits in an int8, which
// only the optimizer sees: bits(weight) = 2^16 bits(bfloat16) + 2^8 correction, as float32 patterns in integer
// arithmetic. The bfloat16 is the weight rounded to nearest, so the correction has a sign. Nothing is random: an update
// is kept if it exceeds half of the 24-bit step, 2^-17 to 2^-16 of the weight. (FlashOptim, arXiv 2602.23349, has a
// bfloat16 master and error bits, too, but scales the error by the spacing of bfloat16; splitting the pattern itself
// makes it exact.)
import {
  add_,
  addScalar,
  addScalar_,
  bitAnd_,
  cast,
  copy_,
  shiftLeft,
  shiftLeft_,
  shiftRight,
  sub_,
  viewDtype,
} from "../../torch/ops.js";
import type { Tensor } from "../../torch/tensor.js";

/** Joins weights and corrections to new float32 values with 16 significant bits. */
export function joinCorrection(weight_N: Tensor, correction_N: Tensor): Tensor {
  const bits_N = shiftLeft_(cast(viewDtype(weight_N, "int16"), "int32"), 16);
  return viewDtype(add_(bits_N, shiftLeft_(cast(correction_N, "int32"), 8)), "float32");
}

/** Rounds float32 values to the nearest 24-bit ones and splits them into both tensors. Overwrites `value_N`. */
export function splitCorrection(value_N: Tensor, weight_N: Tensor, correction_N: Tensor): void {
  const bits_N = bitAnd_(addScalar_(viewDtype(value_N, "int32"), 128), -256);
  const high_N = shiftRight(addScalar(bits_N, 32_768), 16);
  copy_(viewDtype(weight_N, "int16"), high_N);
  copy_(correction_N, shiftRight(sub_(bits_N, shiftLeft(high_N, 16)), 8));
}
