// All that a layer with a gated delta rule does to a tile between its projections, in operators that have gradients:
// used in float64, and to test the kernels.
import {
  add,
  addScalar,
  cast,
  cat,
  exp,
  expand,
  mul,
  mulScalar,
  narrow,
  neg,
  reshape,
  rsqrt,
  sigmoid,
  silu,
  softplus,
  square,
  sumDim,
  unsqueeze,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type DType, shape, type Tensor } from "../../torch/tensor.js";
import { rmsNorm } from "../norm.js";
import { wide } from "../wide.js";
import { deltaRule } from "./delta-rule.js";
import type { Projected } from "./delta-projections.js";
import type { GatedDelta } from "./delta-settings.js";
import type { Operators } from "./scan.js";
import { shortConvolution } from "./short-convolution.js";

/** Everything between the projections, for a tile of tokens: convolution, silu, delta rule, norm, gate. */
export function referenceTile(
  { keyHeads, keyWidth, valueHeads, valueWidth, normEpsilon }: Omit<GatedDelta, "projections">,
  { q_TN, k_TN, v_TN, z_TN, b_TH, a_TH }: Projected,
  { conv_NK, aLog_H, dtBias_H, norm_V }: { conv_NK: Tensor; aLog_H: Tensor; dtBias_H: Tensor; norm_V: Tensor },
  before: { before_PN: Tensor; state_HCV: Tensor },
  { chunk, computeDtype }: { chunk: number; computeDtype: DType },
): ReturnType<Operators> {
  return scope(() => {
    const mixed = scope(() => {
      const x_TN = wide(cat([q_TN, k_TN, v_TN], 1));
      const { y_TN, before_PN } = shortConvolution(x_TN, wide(conv_NK), before.before_PN);
      return { y_TN: silu(y_TN), before_PN };
    });
    const keys = keyHeads * keyWidth;
    const heads = (first: number, count: number, width: number): Tensor =>
      reshape(narrow(mixed.y_TN, 1, first, count * width), [-1, count, width]);
    const key_THC = (first: number): Tensor =>
      repeated(unitLength(heads(first, keyHeads, keyWidth)), valueHeads / keyHeads);
    const { out_THV, state_HCV } = deltaRule(
      {
        q_THC: mulScalar(key_THC(0), keyWidth ** -0.5),
        k_THC: key_THC(keys),
        v_THV: heads(2 * keys, valueHeads, valueWidth),
        logDecay_TH: scope(() => neg(mul(exp(wide(aLog_H)), softplus(add(wide(a_TH), wide(dtBias_H)))))),
        rate_TH: sigmoid(wide(b_TH)),
      },
      before.state_HCV,
      chunk,
    );
    const normed_THV = rmsNorm(out_THV, norm_V, normEpsilon, computeDtype);
    const gated_THV = mul(wide(normed_THV), silu(wide(reshape(z_TN, shape(normed_THV)))));
    const out_TN = cast(reshape(gated_THV, [-1, valueHeads * valueWidth]), computeDtype);
    return { out_TN, state: [mixed.before_PN, state_HCV] };
  });
}

/** x / |x| for each head. */
const unitLength = (x_THC: Tensor): Tensor =>
  scope(() => mul(x_THC, rsqrt(addScalar(sumDim(square(x_THC), [-1], true), 1e-6))));

/** Repeats each head `times` times in place: heads 0, 0, ..., 1, 1, ... */
function repeated(x_THC: Tensor, times: number): Tensor {
  const [tokens, heads, width] = shape(x_THC);
  if (times === 1) return x_THC;
  return reshape(expand(unsqueeze(x_THC, 2), [tokens, heads, times, width]), [tokens, heads * times, width]);
}
