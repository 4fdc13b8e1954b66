// Stochastic rounding of float32 to bfloat16: the dropped 16 bits decide by chance, so that an update smaller than half a
// step is not lost but happens with the matching probability. Unbiased: E[rounded] = value.
// Random bits are drawn once for a tile and made new for the next by an exclusive or with one number drawn for it: every bit pattern
// stays equally likely and any two roundings independent, in one tile or two, so sums have the mean and the variance of fresh draws.
import { add_, bitAnd_, bitXor_, cast, copy_, narrow, random_, viewDtype } from "../torch/ops.js";
import { device, empty, numel, type Tensor } from "../torch/tensor.js";

const LOWEST_INT64 = -(2n ** 63n);
const LOW_16 = 65_535;

/** 16 random bits for each of `count` elements, as int32; from the engine's generator: seed it to repeat. */
export function roundingNoise(count: number, onDevice: string): Tensor {
  // One draw of 64 bits serves four elements.
  const drawn = random_(empty([Math.ceil(count / 4)], "int64", onDevice), LOWEST_INT64, null);
  return bitAnd_(cast(narrow(viewDtype(drawn, "int16"), 0, 0, count), "int32"), LOW_16);
}

/**
 * Adds 16 random bits below the kept ones and cuts. Overwrites `value` (one dimension, no longer than `noise`), and `noise`
 * with bits for the next call; the result goes to `into` (bfloat16).
 */
export function roundStochastically(value: Tensor, into: Tensor, noise: Tensor): void {
  const renewed = bitXor_(noise, random_(empty([1], "int32", device(value)), 0, LOW_16 + 1));
  bitAnd_(add_(viewDtype(value, "int32"), narrow(renewed, 0, 0, numel(value))), -LOW_16 - 1);
  copy_(into, value);
}
