// Root-mean-square normalisation: x / sqrt(mean(x^2) + eps) in float32 (float64 for float64), rounded to the compute
// dtype, then times the weight. Agrees with Qwen2MoeRMSNorm, MixtralRMSNorm and OlmoeRMSNorm of transformers.
import { addScalar, cast, meanDim, mul, rsqrt, square } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, type DType, type Tensor } from "../torch/tensor.js";

export function rmsNorm(x_TD: Tensor, weight_D: Tensor, epsilon: number, computeDtype: DType): Tensor {
  return scope(() => {
    const wide = dtype(x_TD) === "float64" ? x_TD : cast(x_TD, "float32");
    const scale_T1 = scope(() => rsqrt(addScalar(meanDim(square(wide), [-1], true), epsilon)));
    return mul(weight_D, cast(mul(wide, scale_T1), computeDtype));
  });
}
