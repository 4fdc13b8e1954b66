// Gradient norms, per block: while updates happen in the backward pass, one block's gradient is all there ever is.
import { mul, narrow, squareSum, sum, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, item, numel, type Tensor } from "../torch/tensor.js";
import { inOnePass } from "./passes.js";

// Where squares are a tensor, they are summed in tiles: no copy of a whole gradient, and the tiles' sums are added in float64.
const TILE_ELEMENTS = 1 << 20;

/** Euclidean norm over all the tensors together. */
export const gradientNorm = (gradients: Tensor[]): number => Math.sqrt(gradients.reduce((total, gradient) => total + squares(gradient), 0));

function squares(gradient: Tensor): number {
  if (inOnePass(gradient) && dtype(gradient) === "float32") return squareSum(gradient);
  const elements = numel(gradient);
  let total = 0;
  for (let start = 0; start < elements; start += TILE_ELEMENTS) {
    total += scope(() => {
      const tile = narrow(view(gradient, [elements]), 0, start, Math.min(TILE_ELEMENTS, elements - start));
      return item(sum(mul(tile, tile)));
    });
  }
  return total;
}

/** The factor that brings `norm` down to `limit` (0: no limit), as torch.nn.utils.clip_grad_norm_. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}
