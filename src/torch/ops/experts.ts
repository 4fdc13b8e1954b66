// What the experts' operators (native/grouped_experts.cpp) do as far as memory goes: one expert's weights are cast at a time, gradients of
// weights are added to those that are there, or rows are kept for gradients that are made later.
import { DTYPES } from "../types.js";
import { castTo, contiguous } from "../shadow/arithmetic.js";
import { record, records } from "../shadow/gradients.js";
import { realEngine } from "../shadow/real-engine.js";
import { drop, make, type Value } from "../shadow/values.js";
import { type N, op, type T } from "./row.js";
import { matrix } from "./rules.js";

/** Where native/grouped_experts.cpp casts weights that are not of the type of x: a place for each product that runs at a time. */
function castPlaces(x: Value, weights: readonly Value[], rows: readonly number[], alone = false): Value | null {
  const others = weights.filter(({ dtype }) => dtype !== x.dtype);
  if (others.length === 0) return null;
  const { experts, threads } = realEngine();
  const small = rows.filter((count) => count > 0 && count < experts.manyRows).length;
  const together = !alone && x.device === "cpu" && (x.dtype === "float32" || x.dtype === "float64") && small >= threads;
  return matrix(together ? threads : 1, Math.max(...others.map(({ count }) => count)), x);
}

interface Span {
  rows: number;
  /** Of which others are left out of sums. */
  padded: boolean;
  /** Whether it begins in the rows of another expert, so that products of it need a place of their own. */
  early: boolean;
}

/** The rows that each expert's products take, null where it has none (groups_of of native/expert_groups.hpp). */
function spansOf(x: Value, rows: readonly number[]): (Span | null)[] {
  const steady = x.device === "cpu" && DTYPES[x.dtype] === 2;
  let first = 0;
  return rows.map((own) => {
    const wanted = steady ? realEngine().steadyRows(own) : own;
    const span = wanted <= x.sizes[0] ? wanted : own;
    const early = first > x.sizes[0] - span;
    first += own;
    return own === 0 ? null : { rows: span, padded: span !== own, early };
  });
}

/** Rows of products of x with matrices, in a tensor that is there. */
function multiplyRows(x: Value, spans: readonly (Span | null)[], width: number): void {
  for (const span of spans) if (span?.early) drop(matrix(span.rows, width, x));
}

/** The narrower factor of a gradient of a weight, with zeros for the rows of others. */
const aloneOf = (x: Value, span: Span | null, sum: Value): Value | null =>
  span?.padded ? matrix(span.rows, Math.min(...sum.sizes), x) : null;

/** Where cuBLAS adds products of x to a sum of another type by itself. */
const addsWide = (sum: Value, x: Value): boolean =>
  realEngine().experts.wideSums && x.device !== "cpu" && sum.dtype === "float32" && DTYPES[x.dtype] === 2;

/** Where all experts go through one kernel. */
const together = (x: Value, weights: readonly Value[]): boolean =>
  realEngine().experts.groupedKernel &&
  x.device !== "cpu" &&
  x.dtype === "bfloat16" &&
  [...x.sizes.slice(1), ...weights[0].sizes, ...weights[weights.length - 1].sizes].every((size) => size % 8 === 0);

/** The result of `make`, made while a copy of the weights in the type of x exists, where they are of another and go through one kernel. */
function withCast(x: Value, weights: readonly Value[], make_: () => Value): Value {
  const copy =
    together(x, weights) && weights[0].dtype !== x.dtype
      ? make([weights.length, ...weights[0].sizes], x.dtype, x.device)
      : null;
  const result = make_();
  drop(copy);
  return result;
}

/** Gradients of weights of all experts, some at a time, before they are added to their sums. */
function addTogether(sums: readonly Value[], x: Value): void {
  const most = Math.max(1, Math.floor(realEngine().experts.groupedElements / sums[0].count));
  drop(make([Math.min(most, sums.length), ...sums[0].sizes], x.dtype, x.device));
}

/** A gradient of one expert's weight: of another type than its sum it is whole before it is added, which copies it. */
function addOne(sum: Value, x: Value, span: Span | null, add: boolean): void {
  const alone = aloneOf(x, span, sum);
  if (sum.dtype !== x.dtype && !addsWide(sum, x)) {
    const gradient = make(sum.sizes, x.dtype, x.device);
    if (x.device === "cpu" && add) drop(castTo(gradient, sum.dtype));
    drop(gradient);
  }
  drop(alone);
}

/** native/grouped_experts.cpp: gradients of weights are added to those that are there, where types differ through a product of its own and a copy. */
function groupedRule(x: Value, gateUp: readonly Value[], down: readonly Value[], rows: readonly number[]): Value {
  const width = down[0].sizes[1];
  const weights = [...gateUp, ...down];
  const casts = castPlaces(x, weights, rows);
  const spans = spansOf(x, rows);
  const both = withCast(x, gateUp, () => matrix(x.sizes[0], 2 * width, x));
  multiplyRows(x, spans, 2 * width);
  // Without a graph it takes the place of the gate.
  const inner = records([x, ...weights]) ? matrix(x.sizes[0], width, x) : null;
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  multiplyRows(x, spans, down[0].sizes[0]);
  for (const each of [inner, casts]) drop(each);
  const result = record(y, [x, ...weights], [x, both, ...weights], (dy, [toX, ...toWeights]) => {
    const dense = contiguous(dy);
    const has = (i: number): boolean => toWeights[i] && rows[i % rows.length] > 0;
    const made = weights.map((weight, i) =>
      has(i) && weight.grad === null ? make(weight.sizes, weight.dtype, weight.device) : null,
    );
    const buffers = weights.map((weight, i) => (has(i) ? (made[i] ?? weight.grad) : null));
    const ofOtherType = (buffer: Value | null): boolean => buffer !== null && buffer.dtype !== x.dtype;
    const places = castPlaces(x, weights, rows, buffers.some(ofOtherType));
    const grouped = together(x, weights) && made.every((each) => each === null);
    const addAlone = (first: number): void => {
      const sums = buffers.slice(first, first + rows.length).filter((buffer) => buffer !== null);
      if (grouped) return void (sums.length > 0 && addTogether(sums, x));
      for (const [i, buffer] of buffers.slice(first, first + rows.length).entries()) {
        if (buffer === null) continue;
        addOne(buffer, x, spans[i], made[first + i] === null);
      }
    };
    const [silu, product] = [matrix(x.sizes[0], width, x), matrix(x.sizes[0], width, x)];
    addAlone(rows.length);
    const dInner = together(x, weights) ? withCast(x, down, () => matrix(x.sizes[0], width, x)) : null;
    multiplyRows(x, spans, width);
    const before = together(x, weights) ? null : toX ? matrix(x.sizes[0], x.sizes[1], x) : null;
    addAlone(0);
    if (toX) multiplyRows(x, spans, x.sizes[1]);
    const dx = before ?? (toX ? withCast(x, gateUp, () => matrix(x.sizes[0], x.sizes[1], x)) : null);
    for (const each of [silu, product, dInner, places, dense]) drop(each);
    return [dx, ...made];
  });
  drop(both);
  return result;
}

/** The same with room for what is kept: no product or gradient of a weight is made. */
function keepRule(
  x: Value,
  gateUp: readonly Value[],
  down: readonly Value[],
  rows: readonly number[],
  kept: readonly Value[],
): Value {
  const width = down[0].sizes[1];
  const weights = [...gateUp, ...down];
  const casts = castPlaces(x, weights, rows);
  if (together(x, weights)) drop(withCast(x, gateUp, () => matrix(x.sizes[0], 2 * width, x)));
  const spans = spansOf(x, rows);
  multiplyRows(x, spans, 2 * width);
  const inner = matrix(x.sizes[0], width, x);
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  multiplyRows(x, spans, down[0].sizes[0]);
  for (const each of [inner, casts]) drop(each);
  return record(y, [x], [x, ...kept, ...weights], (dy) => {
    const made = [
      contiguous(dy),
      castPlaces(x, weights, rows),
      matrix(x.sizes[0], width, x),
      matrix(x.sizes[0], width, x),
    ];
    multiplyRows(x, spans, width);
    const dx = matrix(x.sizes[0], x.sizes[1], x);
    multiplyRows(x, spans, x.sizes[1]);
    for (const each of made) drop(each);
    return [dx];
  });
}

/** Gradients of the weights of some experts. */
function gradientsRule(
  sums: readonly Value[],
  _dy: Value,
  x: Value,
  rows: readonly number[],
  first: number,
  add: boolean,
): void {
  if (together(x, [x]) && sums[0].sizes.every((size) => size % 8 === 0)) {
    addTogether(sums, x);
    return;
  }
  const spans = spansOf(x, rows);
  for (const [i, sum] of sums.entries()) if (rows[first + i] > 0) addOne(sum, x, spans[first + i], add);
}

/** y_RD = (silu(x Wg') * (x Wu')) Wd' of rows sorted by expert, with stacked gate and up [2F, D], down [D, F] in any dtype, cast one at a time, and the number of rows of each expert (native/grouped_experts.cpp). */
export const groupedExperts = op<(x: T, gateUp: T[], down: T[], rows: N[]) => T>(
  "revmoe::grouped_experts(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows) -> Tensor",
  groupedRule,
);
/** The same, whose backward pass makes no gradients of weights and leaves in `kept` what they are made of: rows of the gradient of both inner products [R, 2F], of the inner product [R, F], and dy [R, D]. */
export const groupedExpertsKeep = op<(x: T, gateUp: T[], down: T[], rows: N[], kept: T[]) => T>(
  "revmoe::grouped_experts_keep(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, Tensor[] kept) -> Tensor",
  keepRule,
);
/** sums[i] = dy_e' x_e, or with `add` += of it, of the experts e from `first` on; rows are sorted by all experts (native/grouped_experts.cpp). */
export const expertGradients_ = op<(sums: T[], dy: T, x: T, rows: N[], first: N, add: boolean) => void>(
  "revmoe::expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, int[] rows, int first, bool add) -> ()",
  gradientsRule,
);
