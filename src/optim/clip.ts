// Gradient norms, per block, because updates happen in the backward pass: no more than one block's gradient exists.
import { BadValuesError } from "../errors.js";
import { hasKernels } from "../torch/kernels/kernels.js";
import { add_, cast, narrow, square, squareSum, vectorNorm, view } from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, dtype, item, numel, type Tensor, zeros } from "../torch/tensor.js";

// Elements that are summed in float32. The sums of such tiles are added in float64.
const TILE_ELEMENTS = 1 << 24;

/** Euclidean norm of all tensors together. Waits for a GPU once. */
export const gradientNorm = (gradients: Tensor[]): number =>
  gradients.length === 0 ? 0 : scope(() => Math.sqrt(item(squareSumOf(gradients))));

/** Sum of the squares of all elements, as a float64 scalar on the tensors' device. */
export function squareSumOf(tensors: Tensor[]): Tensor {
  const on = device(tensors[0]);
  if (hasKernels(on) && tensors.every((tensor) => dtype(tensor) === "float32")) return squareSum(tensors);
  return scope(() => {
    const total = zeros([], "float64", on);
    for (const tensor of tensors) {
      const elements = numel(tensor);
      forEachTile(elements, TILE_ELEMENTS, (start, count) =>
        scope(() => {
          const tile_N = narrow(view(tensor, [elements]), 0, start, count);
          add_(total, square(cast(vectorNorm(tile_N, 2), "float64")));
        }),
      );
    }
    return total;
  });
}

/** The factor that brings `norm` down to `limit` (0: no limit), as in torch.nn.utils.clip_grad_norm_. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}

/** The norm of a part's gradients; `add` takes in more of them. Errors: BadValuesError where it is not finite. */
export class PartNorm {
  value = 0;

  constructor(
    readonly part: number,
    whole: number,
  ) {
    this.add(whole);
  }

  add(norm: number): void {
    this.value = Math.hypot(this.value, norm);
    if (Number.isFinite(this.value)) return;
    throw new BadValuesError(
      `the gradient of ${this.part < 0 ? "the embedding or head" : `block ${this.part}`} is not a finite number.`,
      "Lower learning_rate or resume from the last checkpoint.",
    );
  }
}
