// Gradient norms, per block: while updates happen in the backward pass, one block's gradient is all there ever is.
import { add_, cast, narrow, square, squareSum, vectorNorm, view } from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, dtype, item, numel, type Tensor, zeros } from "../torch/tensor.js";
import { inOnePass } from "./passes.js";

// Summed in float32, before the tiles' sums are added in float64.
const TILE_ELEMENTS = 1 << 24;

/** Euclidean norm over all the tensors together. A GPU is waited for once. */
export function gradientNorm(gradients: Tensor[]): number {
  const inPasses = gradients.filter((gradient) => inOnePass(gradient) && dtype(gradient) === "float32");
  const others = gradients.filter((gradient) => !inPasses.includes(gradient));
  const squares = inPasses.reduce((total, gradient) => total + squareSum(gradient), 0);
  return Math.sqrt(others.length === 0 ? squares : squares + squaresOf(others));
}

function squaresOf(gradients: Tensor[]): number {
  return scope(() => {
    const total = zeros([], "float64", device(gradients[0]));
    for (const gradient of gradients) {
      const elements = numel(gradient);
      forEachTile(elements, TILE_ELEMENTS, (start, count) =>
        scope(() => {
          const tile_N = narrow(view(gradient, [elements]), 0, start, count);
          add_(total, square(cast(vectorNorm(tile_N, 2), "float64")));
        }),
      );
    }
    return item(total);
  });
}

/** The factor that brings `norm` down to `limit` (0: no limit), as torch.nn.utils.clip_grad_norm_. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}
