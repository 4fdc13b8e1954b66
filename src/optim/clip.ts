// Gradient norms, per block: while updates happen in the backward pass, one block's gradient is all there ever is.
import { mul, narrow, sum, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { item, numel, type Tensor } from "../torch/tensor.js";

// Squares are summed in tiles: no copy of a whole gradient, and the tiles' sums are added in float64.
const TILE_ELEMENTS = 1 << 20;

/** Euclidean norm over all the tensors together. */
export function gradientNorm(gradients: Tensor[]): number {
  let squares = 0;
  for (const gradient of gradients) {
    const elements = numel(gradient);
    for (let start = 0; start < elements; start += TILE_ELEMENTS) {
      squares += scope(() => {
        const tile = narrow(view(gradient, [elements]), 0, start, Math.min(TILE_ELEMENTS, elements - start));
        return item(sum(mul(tile, tile)));
      });
    }
  }
  return Math.sqrt(squares);
}

/** The factor that brings `norm` down to `limit` (0: no limit), as torch.nn.utils.clip_grad_norm_. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}
