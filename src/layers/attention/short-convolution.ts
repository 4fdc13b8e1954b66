// A causal convolution over a few tokens, for each channel by itself, as a sum of shifted products: the same bits every
// time.
import { add, cat, mul, narrow, select } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { shape, type Tensor } from "../../torch/tensor.js";

/**
 * y_t = sum_j w_j x_(t-K+1+j) for x_TN and weight_NK; `before_PN` has the K - 1 rows before the first. Also returns the
 * K - 1 rows before whatever follows the last.
 */
export function shortConvolution(
  x_TN: Tensor,
  weight_NK: Tensor,
  before_PN: Tensor,
): { y_TN: Tensor; before_PN: Tensor } {
  const [tokens, past] = [shape(x_TN)[0], shape(before_PN)[0]];
  return scope(() => {
    const all_UN = cat([before_PN, x_TN], 0);
    const shifted = (j: number): Tensor => scope(() => mul(narrow(all_UN, 0, j, tokens), select(weight_NK, 1, j)));
    let y_TN = shifted(0);
    for (let j = 1; j <= past; j++) y_TN = add(y_TN, shifted(j));
    return { y_TN, before_PN: narrow(all_UN, 0, tokens, past) };
  });
}
