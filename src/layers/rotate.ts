// Rotary positions applied to queries or keys (RoFormer, arXiv 2104.09864, eq. 34).
import { add, cat, mul, narrow, neg, unsqueeze } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { shape, type Tensor } from "../torch/tensor.js";
import type { RotaryTables } from "../model/rotary.js";

/**
 * x cos + turn(x) sin on the first R features of each head, turn([a, b]) = [-b, a] on halves of them; the others pass. x_THC -> the
 * same shape.
 */
export function rotate(x_THC: Tensor, { cos_TR, sin_TR }: RotaryTables): Tensor {
  const [features, turning] = [shape(x_THC)[2], shape(cos_TR)[1]];
  const half = turning / 2;
  return scope(() => {
    const x_THR = turning === features ? x_THC : narrow(x_THC, 2, 0, turning);
    const turned_THR = cat([neg(narrow(x_THR, 2, half, half)), narrow(x_THR, 2, 0, half)], 2);
    const rotated_THR = add(mul(x_THR, unsqueeze(cos_TR, 1)), mul(turned_THR, unsqueeze(sin_TR, 1)));
    if (turning === features) return rotated_THR;
    return cat([rotated_THR, narrow(x_THC, 2, turning, features - turning)], 2);
  });
}
