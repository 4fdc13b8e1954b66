// Updates of weights: in one pass on a CPU (native/update_passes.cpp), in one kernel of libtorch's on a GPU. All in place.
import { type N, newerOp, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/** bits(into) = (bits(value) + (noise ^ mask)) >> 16, of float32 to bfloat16 on a CPU, with 16 random bits in each int32 of noise. */
export const roundStochastically_ = op<(into: T, value: T, noise: T, mask: N) => void>(
  "revmoe::round_stochastically_(Tensor(a!) into, Tensor value, Tensor noise, int mask) -> ()",
  nothing,
);
/** m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  w = keep w - rate m / (scale sqrt(v) + epsilon), all dense float32. */
export const adamw_ = op<(w: T, m: T, v: T, g: T, beta1: N, beta2: N, epsilon: N, keep: N, rate: N, scale: N) => void>(
  "revmoe::adamw_(Tensor(a!) w, Tensor(b!) m, Tensor(c!) v, Tensor g, float beta1, float beta2, float epsilon, float keep, float rate, float scale) -> ()",
  nothing,
);
/** adamw_ of whole lists in one kernel, with the number of steps as float32 tensors. */
export const fusedAdamw_ = newerOp<
  (
    w: T[],
    g: T[],
    m: T[],
    v: T[],
    most: T[],
    steps: T[],
    rate: N,
    beta1: N,
    beta2: N,
    decay: N,
    epsilon: N,
    amsgrad: false,
    maximize: false,
  ) => void
>(
  "aten::_fused_adamw_(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()",
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
