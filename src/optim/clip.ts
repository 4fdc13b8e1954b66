// Gradient norms, per block: while updates happen in the backward pass, one block's gradient is all there ever is.
import { mul, sum } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { item, type Tensor } from "../torch/tensor.js";

/** Euclidean norm over all the tensors together. */
export function gradientNorm(gradients: Tensor[]): number {
  let squares = 0;
  for (const gradient of gradients) squares += scope(() => item(sum(mul(gradient, gradient))));
  return Math.sqrt(squares);
}

/** The factor that brings `norm` down to `limit` (0: no limit), as torch.nn.utils.clip_grad_norm_. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}
