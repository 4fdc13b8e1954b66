// Steps of residual streams on an integer grid, in one pass each (native/kernels/streams.h, momentum.h). All in place,
// on dense tensors. `flags` are two float64 numbers in units of the grid: the largest product and the largest element
// beyond half of the stream's range.
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/** out = stream + round(scale y); without a stream, it counts as zeros. */
export const streamAdd_ = op<(out: T, stream: T | null, y: T, scale: N, flags: T) => void>(
  "revmoe::stream_add_(Tensor(a!) out, Tensor? stream, Tensor y, float scale, Tensor(b!) flags) -> ()",
  nothing,
);
/** stream -= less, if that is given; then x = unit stream, as float32. */
export const streamFloat_ = op<(x: T, stream: T, less: T | null, unit: N) => void>(
  "revmoe::stream_float_(Tensor(a!) x, Tensor(b!) stream, Tensor? less, float unit) -> ()",
  nothing,
);
/**
 * A factor gamma = +-2^-shift (0: none), times a sign for each token if there are signs; `slot` bits are kept for each
 * element of v.
 */
type Momentum = [signs: T | null, unit: N, gamma: N, shift: N, slot: N, flags: T];
/**
 * v' = gamma v + round((1 - gamma) unit y);  p' = p + v'; writes the low bits of v that gamma drops, if they are
 * wanted.
 */
export const momentum_ = op<
  (...args: [pNext: T, vNext: T, bits: T | null, p: T, v: T, y: T, ...factor: Momentum]) => void
>(
  "revmoe::momentum_(Tensor(a!) p_next, Tensor(b!) v_next, Tensor(c!)? bits, Tensor p, Tensor v, Tensor y, Tensor? signs, float unit, float gamma, int shift, int slot, Tensor(d!) flags) -> ()",
  nothing,
);
/** Turns v' back into v, in place. */
export const momentumBack_ = op<(...args: [v: T, bits: T | null, y: T, ...factor: Momentum]) => void>(
  "revmoe::momentum_back_(Tensor(a!) v, Tensor? bits, Tensor y, Tensor? signs, float unit, float gamma, int shift, int slot, Tensor(b!) flags) -> ()",
  nothing,
);
/** dy = (1 - gamma) (dv + dp);  dv = gamma (dv + dp); all float32. */
export const momentumGradient_ = op<(dv: T, dy: T, dp: T, signs: T | null, gamma: N) => void>(
  "revmoe::momentum_gradient_(Tensor(a!) dv, Tensor(b!) dy, Tensor dp, Tensor? signs, float gamma) -> ()",
  nothing,
);
