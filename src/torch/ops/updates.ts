// Updates of weights, in one pass (native/kernels). All in place.
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/** A stored weight (optim/weights/weight.ts): its bits, what is below them, and what decides how they are rounded: a seed, and the number of its first element. */
export type StoredArgs = [w: T, correction: T | null, seed: N, first: N];
/** Stores float32 values in a weight, rounded as its storage asks. */
export const storeWeight_ = op<(...args: [...StoredArgs, value: T]) => void>(
  "revmoe::store_weight_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor value) -> ()",
  nothing,
);
/** m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  w = keep w - rate m / (scale sqrt(v) + epsilon), of a weight of any storage; the rest is dense float32. */
export const adamw_ = op<
  (...args: [...StoredArgs, m: T, v: T, g: T, beta1: N, beta2: N, epsilon: N, keep: N, rate: N, scale: N]) => void
>(
  "revmoe::adamw_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor(c!) m, Tensor(d!) v, Tensor g, float beta1, float beta2, float epsilon, float keep, float rate, float scale) -> ()",
  nothing,
);
/** into = code[q] * scale of its block of 256 elements. */
export const decodeBlocks_ = op<(into: T, q: T, scale: T, code: T) => void>(
  "revmoe::decode_blocks_(Tensor(a!) into, Tensor q, Tensor scale, Tensor code) -> ()",
  nothing,
);
/** scale = the largest magnitude of a block;  q = first[upper 16 bits of x / scale], or the next code where x / scale is above its bound. */
export const encodeBlocks_ = op<(q: T, scale: T, x: T, first: T, bounds: T) => void>(
  "revmoe::encode_blocks_(Tensor(a!) q, Tensor(b!) scale, Tensor x, Tensor first, Tensor bounds) -> ()",
  nothing,
);
/** Of a matrix g: means of g^2 + floor over the columns, and sums over the rows. */
export const factoredSquares_ = op<(rowMeans: T, columnSums: T, g: T, floor: N) => void>(
  "revmoe::factored_squares_(Tensor(a!) row_means, Tensor(b!) column_sums, Tensor g, float floor) -> ()",
  nothing,
);
/** g_ij *= rows_i columns_j; returns the sum of the squares of what comes out. */
export const scaleMatrix_ = op<(g: T, rows: T, columns: T) => N>(
  "revmoe::scale_matrix_(Tensor(a!) g, Tensor rows, Tensor columns) -> float",
  () => 1,
);
