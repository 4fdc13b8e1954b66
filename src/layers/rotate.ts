// Rotary positions applied to queries or keys (RoFormer, arXiv 2104.09864, eq. 34).
import { runOn } from "../torch/kernels/kernels.js";
import { add, cast, cat, mul, narrow, neg, reshape, transpose, turnHeads, unsqueeze } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, shape, type Tensor } from "../torch/tensor.js";
import type { RotaryTables } from "../model/rotary.js";
import { type NormForm, rmsNorm } from "./norm.js";
import { wide } from "./wide.js";

export interface Turning {
  /** Norm of each head, before it is rotated; none by default. */
  norm?: { weight_C: Tensor; epsilon: number; form?: NormForm } | null;
  /** The first feature that is rotated; 0 by default. */
  start?: number;
}

/**
 * x cos + turn(x) sin on R features of each head from `start` on, with turn([a, b]) = [-b, a] on their halves; other
 * features pass unchanged. x_THC -> the same shape. Pairs of neighbours come back as halves; scores do not change if
 * queries and keys both do.
 */
export function rotate(x_THC: Tensor, tables: RotaryTables, { norm = null, start = 0 }: Turning = {}): Tensor {
  const { cos_TR, sin_TR, neighbours = false } = tables;
  return scope(() => {
    const of = norm && { ...norm, oneMore: norm.form === "product with 1 + w rounded", weight_C: wide(norm.weight_C) };
    if (runOn(x_THC))
      return turnHeads(x_THC, cos_TR, sin_TR, neighbours, start, of?.weight_C, of?.epsilon, of?.oneMore);
    return turned(norm ? rmsNorm(x_THC, norm.weight_C, norm.epsilon, dtype(x_THC), norm.form) : x_THC, tables, start);
  });
}

function turned(x_THC: Tensor, { cos_TR, sin_TR, neighbours }: RotaryTables, start: number): Tensor {
  const [features, turning] = [shape(x_THC)[2], shape(cos_TR)[1]];
  const half = turning / 2;
  const part_THR = turning === features ? x_THC : narrow(x_THC, 2, start, turning);
  const x_THR = cast(neighbours ? asHalves(part_THR) : part_THR, dtype(cos_TR));
  const turned_THR = cat([neg(narrow(x_THR, 2, half, half)), narrow(x_THR, 2, 0, half)], 2);
  const rotated_THR = cast(add(mul(x_THR, unsqueeze(cos_TR, 1)), mul(turned_THR, unsqueeze(sin_TR, 1))), dtype(x_THC));
  if (turning === features) return rotated_THR;
  const still = (first: number, count: number): Tensor[] => (count === 0 ? [] : [narrow(x_THC, 2, first, count)]);
  const end = start + turning;
  return cat([...still(0, start), rotated_THR, ...still(end, features - end)], 2);
}

/** Reorders features: all 2i first, then all 2i+1. */
function asHalves(x_THR: Tensor): Tensor {
  const [tokens, heads, turning] = shape(x_THR);
  const pairs_THP2 = reshape(x_THR, [tokens, heads, turning / 2, 2]);
  return reshape(transpose(pairs_THP2, 2, 3), [tokens, heads, turning]);
}
