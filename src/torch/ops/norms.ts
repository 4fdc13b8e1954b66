// Norms of rows, rotation of heads by position, and gated products, each in one pass per direction (native/kernels).
// Tensors have one to three dimensions, dense rows, and dtype float32 or bfloat16; results are computed in float32 and
// rounded once.
import { contiguous } from "../shadow/arithmetic.js";
import { record, records } from "../shadow/gradients.js";
import { drop, hold, make, type Value, viewOf } from "../shadow/values.js";
import { type DType, type N, op, type T } from "./row.js";

const rowsOf = ({ sizes, count }: Value): number => count / (sizes.at(-1) as number);
/** See with_rows of native/operators/rows.cpp. */
const withRows = (x: Value): Value => (x.sizes.at(-1) === 1 || x.strides.at(-1) === 1 ? hold(x) : contiguous(x));

/** The same numbers as in native/operators/norms.cpp and native/kernels/rows.h. */
const [STRIP_ROWS, MOST_STRIPS, ROWS_TOGETHER] = [16, 8192, 16];
const stripsOf = (rows: number): number => Math.ceil(rows / Math.max(STRIP_ROWS, Math.ceil(rows / MOST_STRIPS)));

/** Consumes `x`. */
function sumOfRows(x: Value): Value {
  const [rows, columns] = x.sizes;
  const next =
    rows === 1 ? viewOf(x, [columns], [1]) : make([Math.ceil(rows / ROWS_TOGETHER), columns], x.dtype, x.device);
  drop(x);
  return rows === 1 ? next : sumOfRows(next);
}

function normed(x: Value, weight: Value | null, tables: readonly Value[], type: DType): Value {
  const inputs = [x, weight, ...tables];
  const scale = weight !== null && records(inputs) ? make([rowsOf(x)], "float32", x.device) : null;
  const y = record(make(x.sizes, type, x.device), inputs, [...inputs, scale], (dy, [, toWeight]) => {
    const dense = withRows(dy);
    const dx = make(x.sizes, x.dtype, x.device);
    const sums = weight && make([stripsOf(rowsOf(x)), x.sizes.at(-1) as number], "float32", x.device);
    const dWeight = toWeight && sums ? sumOfRows(sums) : null;
    if (dWeight === null) drop(sums);
    drop(dense);
    return [dx, dWeight, ...tables.map(() => null)];
  });
  drop(scale);
  return y;
}

/**
 * y = x / sqrt(mean(x^2) + epsilon) w for each row; if `oneMore`, with 1 + w instead of w. w is float32 and dense; y
 * has `dtype`: that of x, or a narrower one.
 */
export const normRows = op<(x: T, weight: T, epsilon: N, oneMore: boolean, dtype: DType) => T>(
  "revmoe::rms_norm(Tensor x, Tensor weight, float epsilon, bool one_more, ScalarType dtype) -> Tensor",
  (x, weight, _epsilon, _oneMore, dtype) => normed(x, weight, [], dtype),
);
/**
 * Rotates R features of heads x_THC, from `start` on, by cos_TR and sin_TR (in the dtype of x, or float32). Pairs are
 * R/2 apart or, with `neighbours`, 2i and 2i+1, which are returned R/2 apart. With a weight, each head is first normed
 * as by `normRows`.
 */
export const turnHeads = op<
  (x: T, cos: T, sin: T, neighbours: boolean, start?: N, weight?: T | null, epsilon?: N, oneMore?: boolean) => T
>(
  "revmoe::rotate(Tensor x, Tensor cos, Tensor sin, bool neighbours, int start=0, Tensor? weight=None, float epsilon=0., bool one_more=False) -> Tensor",
  (x, cos, sin, _neighbours, _start, weight = null) => normed(x, weight, [cos, sin], x.dtype),
);
/** The function of a gate before the product. */
export type GateFunction = "silu" | "sigmoid";
/** f(gate) x, for equal sizes and dtype. */
export const gatedProduct = op<(gate: T, x: T, name: GateFunction) => T>(
  "revmoe::gated(Tensor gate, Tensor x, str function) -> Tensor",
  (gate, x) =>
    record(make(x.sizes, x.dtype, x.device), [gate, x], [gate, x], (dy) => {
      const dense = withRows(dy);
      const made = [gate, x].map(() => make(x.sizes, x.dtype, x.device));
      drop(dense);
      return made;
    }),
);
