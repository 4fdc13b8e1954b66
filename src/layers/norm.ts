// Root-mean-square normalisation: n = x / sqrt(mean(x^2) + eps) in float32 (float64 for float64), times a weight, in the compute
// dtype. Families differ in whether n or the product is rounded to it. Agrees with the RMSNorm of their classes in transformers.
import { addScalar, cast, meanDim, mul, rsqrt, square } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { DType, Tensor } from "../torch/tensor.js";
import type { ParameterSpec } from "../model/architecture.js";
import { wide } from "./wide.js";

/** What is rounded to the compute dtype: n, or its product with a weight in float32. */
export type NormForm = "n rounded" | "product rounded";

export const normSpec = (name: string, width: number, form: NormForm = "n rounded"): ParameterSpec => ({
  ...{ name, shape: [width], init: "ones" },
  ...(form === "n rounded" ? {} : { wide: true }),
});

export function rmsNorm(
  x_TD: Tensor,
  weight_D: Tensor,
  epsilon: number,
  computeDtype: DType,
  form: NormForm = "n rounded",
): Tensor {
  return scope(() => {
    const wide_TD = wide(x_TD);
    const scale_T1 = scope(() => rsqrt(addScalar(meanDim(square(wide_TD), [-1], true), epsilon)));
    const n_TD = mul(wide_TD, scale_T1);
    return form === "n rounded" ? mul(weight_D, cast(n_TD, computeDtype)) : cast(mul(weight_D, n_TD), computeDtype);
  });
}
