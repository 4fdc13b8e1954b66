// Stochastic rounding of float32 to bfloat16: the dropped 16 bits decide by chance, so that an update smaller than half a
// step is not lost but happens with the matching probability. Unbiased: E[rounded] = value.
// A kernel makes the random bits of an element from a seed and its number (native/kernels/weight.h), so that they are the same for any number of
// threads. The reference, here: random bits are drawn once for a tile and made new for the next by an exclusive or with one number drawn for it: every bit pattern
// stays equally likely and any two roundings independent, in one tile or two, so sums have the mean and the variance of fresh draws.
import { add_, bitAnd_, bitXor, cast, copy_, narrow, random_, select, view, viewDtype } from "../../torch/ops.js";
import { empty, item, numel, type Tensor } from "../../torch/tensor.js";

const LOWEST_INT64 = -(2n ** 63n);
const LOW_16 = 65_535;

/** The seed of a parameter's random bits, from the engine's generator. Whole, below 2^53. */
export const roundingSeed = (): number => item(random_(empty([1], "int64"), 0, 2 ** 53 - 1));

export interface RoundingNoise {
  /** 16 random bits for each element of a tile, as int32. */
  bits_N: Tensor;
  /** What they are combined with for the tile at hand. */
  mask: number;
}

/** Noise for tiles of up to `count` elements; from the engine's generator: seed it to repeat. */
export function roundingNoise(count: number, onDevice: string): RoundingNoise {
  // One draw of 64 bits serves four elements.
  const drawn = random_(empty([Math.ceil(count / 4)], "int64", onDevice), LOWEST_INT64, null);
  return { bits_N: bitAnd_(cast(narrow(viewDtype(drawn, "int16"), 0, 0, count), "int32"), LOW_16), mask: 0 };
}

/**
 * Adds 16 random bits below the kept ones and cuts. May overwrite `value` (one dimension, no longer than the noise); the result goes
 * to `into` (bfloat16). The next call has other bits.
 */
export function roundStochastically(value: Tensor, into: Tensor, noise: RoundingNoise): void {
  noise.mask ^= item(random_(empty([1], "int32"), 0, LOW_16 + 1));
  const renewed = bitXor(narrow(noise.bits_N, 0, 0, numel(value)), noise.mask);
  // The upper halves of the sums, as they lie in memory.
  const sums_N2 = view(viewDtype(add_(viewDtype(value, "int32"), renewed), "int16"), [numel(value), 2]);
  copy_(viewDtype(into, "int16"), select(sums_N2, 1, 1));
}
