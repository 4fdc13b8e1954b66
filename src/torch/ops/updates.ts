// Updates of weights by the addon's kernels (native/kernels), each in one pass; factored ones in three. All in place.
// The weight may have any storage; the rest is dense: float32, and uint8 codes. The gradient is multiplied by
// `gradientScale` on the way; `keep` is the factor that decay leaves of a weight.
import { drop, make, type Value, viewOf } from "../shadow/values.js";
import { isCpu } from "../device-name.js";
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/**
 * A stored weight (optim/weights/weight.ts): its bits, the correction below them, and what decides its rounding: a
 * seed, and the number of its first element.
 */
export type StoredArgs = [w: T, correction: T | null, seed: N, first: N];
const STORED = "Tensor(a!) w, Tensor(b!)? correction, int seed, int first";

/** Sum of the squares of dense float32 tensors on one device, in float64, on that device. */
export const squareSum = op<(tensors: T[]) => T>("revmoe::square_sum(Tensor[] tensors) -> Tensor", (tensors) => {
  const chunks = tensors.reduce((sum, { count, copies }) => sum + Math.ceil(count / 4096) * copies, 0);
  let sums = make([chunks], "float64", tensors[0].device);
  do {
    const totals = make([Math.max(1, Math.ceil(sums.count / 4096))], "float64", tensors[0].device);
    drop(sums);
    sums = totals;
  } while (sums.count > 1);
  const total = viewOf(sums, [], []);
  drop(sums);
  return total;
});
/** Stores float32 values in a weight, rounded as its storage asks. */
export const storeWeight_ = op<(...args: [...StoredArgs, value: T]) => void>(
  `revmoe::store_weight_(${STORED}, Tensor value) -> ()`,
  nothing,
);
/** w = keep w - rate u. */
export const move_ = op<(...args: [...StoredArgs, u: T, keep: N, rate: N]) => void>(
  `revmoe::move_(${STORED}, Tensor u, float keep, float rate) -> ()`,
  nothing,
);

/** m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  w = keep w - rate m / (scale sqrt(v) + epsilon). */
export type AdamNumbers = [gradientScale: N, beta1: N, beta2: N, epsilon: N, keep: N, rate: N, scale: N];
const ADAM =
  "Tensor g, float gradient_scale, float beta1, float beta2, float epsilon, float keep, float rate, float scale";
export const adamw_ = op<(...args: [...StoredArgs, m: T, v: T, g: T, ...AdamNumbers]) => void>(
  `revmoe::adamw_(${STORED}, Tensor(c!) m, Tensor(d!) v, ${ADAM}) -> ()`,
  nothing,
);
/** A moment in 8 bits (optim/state/block-quantize.ts). */
export type MomentArgs = [codes: T, scales: T];
export const adamw8bit_ = op<(...args: [...StoredArgs, ...MomentArgs, ...MomentArgs, g: T, ...AdamNumbers]) => void>(
  `revmoe::adamw8bit_(${STORED}, Tensor(c!) m, Tensor(d!) m_scale, Tensor(e!) v, Tensor(f!) v_scale, ${ADAM}) -> ()`,
  nothing,
);
/** b = momentum b + g;  w = keep w - rate b. */
export const sgd_ = op<
  (...args: [...StoredArgs, buffer: T, g: T, gradientScale: N, momentum: N, keep: N, rate: N]) => void
>(
  `revmoe::sgd_(${STORED}, Tensor(c!) buffer, Tensor g, float gradient_scale, float momentum, float keep, float rate) -> ()`,
  nothing,
);
/** w = keep w - rate sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g. */
export const lion_ = op<
  (...args: [...StoredArgs, m: T, g: T, gradientScale: N, beta1: N, beta2: N, keep: N, rate: N]) => void
>(
  `revmoe::lion_(${STORED}, Tensor(c!) m, Tensor g, float gradient_scale, float beta1, float beta2, float keep, float rate) -> ()`,
  nothing,
);
/** b += (1 - momentum) (g - b);  g = (1 - momentum) g + momentum b. */
export const nesterov_ = op<(buffer: T, g: T, gradientScale: N, momentum: N) => void>(
  "revmoe::nesterov_(Tensor(a!) buffer, Tensor(b!) g, float gradient_scale, float momentum) -> ()",
  nothing,
);

const workspace = (w: Value, bytes: number): void => drop(make([bytes], "uint8", w.device));
/**
 * The update of optim/factored.ts for matrices side by side; its workspace is that of the matrices that are updated
 * together (native/operators/factored.cpp).
 */
export const factored_ = op<
  (
    ...args: [
      ...StoredArgs,
      ...[row: T, column: T, g: T, rows: N, columns: N, gradientScale: N, keep: N],
      ...[learningRate: N, decay: N, clip: N, relative: boolean],
    ]
  ) => void
>(
  `revmoe::factored_(${STORED}, Tensor(c!) row, Tensor(d!) column, Tensor g, int rows, int columns, float gradient_scale, float keep, float learning_rate, float decay, float clip, bool relative) -> ()`,
  (w, _correction, _seed, _first, _row, _column, _g, rows, columns) => {
    const most = Math.floor((isCpu(w.device) ? 2 ** 20 : 2 ** 28) / (rows * columns));
    const together = Math.min(Math.max(1, most), w.count / (rows * columns));
    const bands = Math.ceil(rows / (8 * Math.min(Math.ceil(rows / 512), 32)));
    workspace(w, together * (8 * bands * columns + 16 * rows + 4 * columns + 12));
  },
);
/** The same for a vector, which has a second moment for each element and does not decay. */
export const factoredVector_ = op<
  (
    ...args: [
      ...StoredArgs,
      ...[variance: T, g: T, gradientScale: N, keep: N, learningRate: N, clip: N, relative: boolean],
    ]
  ) => void
>(
  `revmoe::factored_vector_(${STORED}, Tensor(c!) variance, Tensor g, float gradient_scale, float keep, float learning_rate, float clip, bool relative) -> ()`,
  (w) => workspace(w, 16 * Math.ceil(w.count / 4096) + 8),
);
