// Parts of the rules of the experts' operators (experts.ts): what native/experts/grouped_experts.cpp allocates for a
// time. Nothing stays allocated.
import { castTo } from "../shadow/arithmetic.js";
import { realEngine } from "../shadow/real-engine.js";
import { drop, make, type Value } from "../shadow/values.js";
import { DTYPES, type DType } from "../types.js";
import { matrix } from "./rules.js";
import { isCpu } from "../device-name.js";

/**
 * Buffers into which native/experts/grouped_experts.cpp casts weights that do not have the type of x: one for each
 * product that runs at the same time.
 */
export function castPlaces(x: Value, weights: readonly Value[], rows: readonly number[]): Value | null {
  const others = weights.filter(({ dtype }) => dtype !== x.dtype);
  if (others.length === 0) return null;
  const { experts, threads } = realEngine();
  const small = rows.filter((count) => count > 0 && count < experts.manyRows).length;
  const atOnce = isCpu(x.device) && (x.dtype === "float32" || x.dtype === "float64") && small >= threads;
  return matrix(atOnce ? threads : 1, Math.max(...others.map(({ count }) => count)), x);
}

export interface Span {
  rows: number;
  /** Whether it includes rows of other experts, which are left out of sums. */
  padded: boolean;
  /** Whether it begins in the rows of another expert, so that its products need their own buffer. */
  early: boolean;
}

/**
 * The rows for which each expert's products are computed; null for an expert without rows (groups_of of
 * native/experts/expert_groups.hpp).
 */
export function spansOf(x: Value, rows: readonly number[]): (Span | null)[] {
  const steady = isCpu(x.device) && DTYPES[x.dtype] === 2;
  const all = rows.reduce((sum, own) => sum + own, 0);
  let first = 0;
  return rows.map((own) => {
    const wanted = steady ? realEngine().steadyRows(own) : own;
    const span = wanted <= all ? wanted : own;
    const early = first > all - span;
    first += own;
    return own === 0 ? null : { rows: span, padded: span !== own, early };
  });
}

/** Multiplies rows of x with matrices, into an existing tensor. */
export function multiplyRows(x: Value, spans: readonly (Span | null)[], width: number): void {
  for (const span of spans) if (span?.early) drop(matrix(span.rows, width, x));
}

/** The narrower factor of a weight's gradient, with zeros for the rows of other experts. */
const aloneOf = (x: Value, span: Span | null, sum: Value): Value | null =>
  span?.padded ? matrix(span.rows, Math.min(...sum.sizes), x) : null;

/** Whether cuBLAS can add products of x directly to a sum of another type. */
const addsWide = (sum: Value, x: Value): boolean =>
  realEngine().experts.wideSums && !isCpu(x.device) && sum.dtype === "float32" && DTYPES[x.dtype] === 2;

/** Whether all experts go through one kernel. */
export const together = (x: Value, weights: readonly Value[]): boolean =>
  realEngine().experts.groupedKernel &&
  !isCpu(x.device) &&
  x.dtype === "bfloat16" &&
  [...x.sizes.slice(1), ...weights[0].sizes, ...weights[weights.length - 1].sizes].every((size) => size % 8 === 0);

/**
 * The result of `make_`. While it runs, a copy of the weights in the type of x exists, if they have another type and go
 * through one kernel.
 */
export function withCast(x: Value, weights: readonly Value[], make_: () => Value): Value {
  const copy =
    together(x, weights) && weights[0].dtype !== x.dtype
      ? make([weights.length, ...weights[0].sizes], x.dtype, x.device)
      : null;
  const result = make_();
  drop(copy);
  return result;
}

/** Gradients of all experts' weights, some at a time, before they are added to their sums. */
export function addTogether(sums: readonly Value[], x: Value): void {
  const most = Math.max(1, Math.floor(realEngine().experts.groupedElements / sums[0].count));
  drop(make([Math.min(most, sums.length), ...sums[0].sizes], x.dtype, x.device));
}

/** A CPU first converts an addend that has another type than the sum, except where our own kernel adds it. */
function take(sum: Value, addend: Value, add: boolean): void {
  const byKernel = addend.dtype === "bfloat16" && sum.dtype === "float32";
  if (add && isCpu(addend.device) && !byKernel) drop(castTo(addend, sum.dtype));
  drop(addend);
}

/** The gradient of one expert's weight; if its type is not that of the sum, all of it is made before it is added. */
export function addOne(sum: Value, x: Value, span: Span | null, add: boolean): void {
  const alone = aloneOf(x, span, sum);
  if (sum.dtype !== x.dtype && !addsWide(sum, x)) take(sum, make(sum.sizes, x.dtype, x.device), add);
  drop(alone);
}

/** Converts biases to the type of the rows y to which they are added, one at a time. */
export function addBiases(y: Value, biases: readonly Value[], rows: readonly number[]): void {
  for (const [expert, bias] of biases.entries()) if (rows[expert] > 0) drop(castTo(bias, y.dtype));
}

/** The sum of an expert's rows of dy, before it is added to the gradient of its bias or becomes it. */
export const addRows = (sum: Value, dy: Value, add: boolean): void =>
  take(sum, make(sum.sizes, dy.dtype, dy.device), add);

/** One number for each row, in the type of x, from one for each choice. */
export function byRow(ofChoices: Value, x: Value): Value {
  const column = make([ofChoices.count], ofChoices.dtype, x.device);
  const right = castTo(column, x.dtype);
  drop(column);
  return right;
}

/**
 * How many matrices of the inner width ATen's operators need beside arguments and result, if no kernels do the work
 * (native/experts/expert_activation.hpp).
 */
const REFERENCE = {
  silu: { forward: 0, back: 4 },
  gelu_tanh: { forward: 0, back: 4 },
  clamped_swiglu: { forward: 2, back: 7 },
  relu_squared: { forward: 0, back: 2 },
} as const;

/** One sum of type `type` for each row of x; a CPU converts x first. */
export function sumOfColumns(x: Value, type: DType): Value {
  const wide = x.dtype !== type && isCpu(x.device) ? castTo(x, type) : null;
  const sum = make([x.sizes[0]], type, x.device);
  drop(wide);
  return sum;
}

const innerRows = (count: number, width: number, gates: Value, x: Value): Value[] =>
  Array.from({ length: count }, () => matrix(gates.count, width, x));

/** What the activation allocates without kernels. */
export function activateByReference(name: keyof typeof REFERENCE, width: number, gates: Value, x: Value): void {
  for (const each of innerRows(REFERENCE[name].forward, width, gates, x)) drop(each);
  drop(byRow(gates, x));
}

/** The same for its gradient; returns the gradient of the gates. */
export function backByReference(name: keyof typeof REFERENCE, width: number, gates: Value, x: Value): Value {
  const [inner, product] = innerRows(2, width, gates, x);
  const column = byRow(gates, x);
  const sum = sumOfColumns(product, gates.dtype);
  const dGates = make(gates.sizes, gates.dtype, gates.device);
  for (const each of [product, sum]) drop(each);
  for (const each of [...innerRows(REFERENCE[name].back - 1, width, gates, x), inner, column]) drop(each);
  return dGates;
}
