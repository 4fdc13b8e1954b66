// Root-mean-square normalisation: n = x / sqrt(mean(x^2) + eps) in float32 (float64 for float64), times a weight, in
// the compute dtype. Families differ in whether n or the product is rounded to it. The reference agrees with their
// RMSNorm classes in transformers; the kernel rounds once, which makes no difference in float32.
import { runOn } from "../torch/kernels/kernels.js";
import { addScalar, cast, meanDim, mul, normRows, rsqrt, square } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype, type Tensor } from "../torch/tensor.js";
import type { ParameterSpec } from "../model/architecture.js";
import { wide } from "./wide.js";

/** What is rounded to the compute dtype: n; or its float32 product with w; or with 1 + w, where w starts at 0. */
export type NormForm = "n rounded" | "product rounded" | "product with 1 + w rounded";

export const normSpec = (name: string, width: number, form: NormForm = "n rounded"): ParameterSpec => ({
  ...{ name, shape: [width], init: form === "product with 1 + w rounded" ? "zeros" : "ones" },
  wide: true,
});

export function rmsNorm(
  x_TD: Tensor,
  weight_D: Tensor,
  epsilon: number,
  computeDtype: DType,
  form: NormForm = "n rounded",
): Tensor {
  const oneMore = form === "product with 1 + w rounded";
  return scope(() => {
    if (runOn(x_TD) && (computeDtype === "bfloat16" || computeDtype === dtype(x_TD)))
      return normRows(x_TD, wide(weight_D), epsilon, oneMore, computeDtype);
    const wide_TD = wide(x_TD);
    const scale_T1 = scope(() => rsqrt(addScalar(meanDim(square(wide_TD), [-1], true), epsilon)));
    const n_TD = mul(wide_TD, scale_T1);
    if (form === "n rounded") return mul(cast(weight_D, computeDtype), cast(n_TD, computeDtype));
    const factor_D = oneMore ? addScalar(weight_D, 1) : weight_D;
    return cast(mul(factor_D, n_TD), computeDtype);
  });
}
