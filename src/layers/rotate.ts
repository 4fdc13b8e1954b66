// Rotary positions applied to queries or keys (RoFormer, arXiv 2104.09864, eq. 34).
import { add, cast, cat, mul, narrow, neg, reshape, transpose, unsqueeze } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, shape, type Tensor } from "../torch/tensor.js";
import type { RotaryTables } from "../model/rotary.js";

/**
 * x cos + turn(x) sin on the first R features of each head, turn([a, b]) = [-b, a] on halves of them; the others pass. x_THC -> the
 * same shape. Features that were neighbours come back as halves, which scores do not notice where queries and keys both do.
 */
export function rotate(x_THC: Tensor, { cos_TR, sin_TR, neighbours }: RotaryTables): Tensor {
  const [features, turning] = [shape(x_THC)[2], shape(cos_TR)[1]];
  const half = turning / 2;
  return scope(() => {
    const part_THR = turning === features ? x_THC : narrow(x_THC, 2, 0, turning);
    const x_THR = cast(neighbours ? asHalves(part_THR) : part_THR, dtype(cos_TR));
    const turned_THR = cat([neg(narrow(x_THR, 2, half, half)), narrow(x_THR, 2, 0, half)], 2);
    const rotated_THR = cast(
      add(mul(x_THR, unsqueeze(cos_TR, 1)), mul(turned_THR, unsqueeze(sin_TR, 1))),
      dtype(x_THC),
    );
    if (turning === features) return rotated_THR;
    return cat([rotated_THR, narrow(x_THC, 2, turning, features - turning)], 2);
  });
}

/** Features 2i in front, then 2i+1. */
function asHalves(x_THR: Tensor): Tensor {
  const [tokens, heads, turning] = shape(x_THR);
  const pairs_THP2 = reshape(x_THR, [tokens, heads, turning / 2, 2]);
  return reshape(transpose(pairs_THP2, 2, 3), [tokens, heads, turning]);
}
