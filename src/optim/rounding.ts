// Stochastic rounding of float32 to bfloat16: the dropped 16 bits decide by chance, so that an update smaller than half a
// step is not lost but happens with the matching probability. Unbiased: E[rounded] = value.
import { add_, bitAnd_, copy_, random_, viewDtype } from "../torch/ops.js";
import { device, shape, type Tensor, zeros } from "../torch/tensor.js";

/**
 * Adds 16 random bits below the kept ones and cuts. Overwrites `value`; the result goes to `into` (bfloat16).
 * Draws from the engine's generator: seed it to repeat.
 */
export function roundStochastically(value: Tensor, into: Tensor): void {
  const noise = random_(zeros(shape(value), "int32", device(value)), 0, 65_536);
  bitAnd_(add_(viewDtype(value, "int32"), noise), -65_536);
  copy_(into, value);
}
