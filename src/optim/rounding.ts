// Stochastic rounding of float32 to bfloat16: the dropped 16 bits decide by chance, so that an update smaller than half a
// step is not lost but happens with the matching probability. Unbiased: E[rounded] = value.
import { add_, bitAnd_, cast, copy_, narrow, random_, viewDtype } from "../torch/ops.js";
import { device, empty, numel, type Tensor } from "../torch/tensor.js";

const LOWEST_INT64 = -(2n ** 63n);

/**
 * Adds 16 random bits below the kept ones and cuts. Overwrites `value` (one dimension); the result goes to `into`
 * (bfloat16). Draws from the engine's generator: seed it to repeat. On the CPU the draws follow one another, so tiles of
 * a multiple of four elements do not change the result.
 */
export function roundStochastically(value: Tensor, into: Tensor): void {
  const count = numel(value);
  // One draw of 64 bits serves four elements.
  const drawn = random_(empty([Math.ceil(count / 4)], "int64", device(value)), LOWEST_INT64, null);
  const noise = bitAnd_(cast(narrow(viewDtype(drawn, "int16"), 0, 0, count), "int32"), 65_535);
  bitAnd_(add_(viewDtype(value, "int32"), noise), -65_536);
  copy_(into, value);
}
