// What the experts' operators (native/grouped_swiglu.cpp) do as far as memory goes: one expert's weights are cast at a time, gradients of
// weights are added to those that are there, or rows are kept for gradients that are made later.
import { DTYPES } from "../tensor.js";
import { castTo, contiguous } from "./arithmetic.js";
import { record, records } from "./gradients.js";
import { libtorch, matrix } from "./kernels.js";
import { drop, make, type Value } from "./values.js";

/** kManyRows of native/grouped_swiglu.cpp. */
const MANY_ROWS = 512;

/** Where native/grouped_swiglu.cpp casts weights that are not of the type of x: a place for each product that runs at a time. */
function castPlaces(x: Value, weights: readonly Value[], rows: readonly number[], alone = false): Value | null {
  const others = weights.filter(({ dtype }) => dtype !== x.dtype);
  if (others.length === 0) return null;
  const small = rows.filter((count) => count > 0 && count < MANY_ROWS).length;
  const together = !alone && x.device === "cpu" && (x.dtype === "float32" || x.dtype === "float64") && small >= libtorch.threads;
  return matrix(together ? libtorch.threads : 1, Math.max(...others.map(({ count }) => count)), x);
}

/** Where cuBLAS adds products of x to a sum of another type by itself. */
const addsWide = (sum: Value, x: Value): boolean =>
  libtorch.version >= 208 && x.device !== "cpu" && sum.dtype === "float32" && DTYPES[x.dtype] === 2;

/** kGroupedElements of native/grouped_products.hpp. */
const GROUPED_ELEMENTS = 2 ** 26;

/** Where all experts go through one kernel. */
const together = (x: Value, weights: readonly Value[]): boolean =>
  libtorch.version >= 210 &&
  x.device !== "cpu" &&
  x.dtype === "bfloat16" &&
  [...x.sizes.slice(1), ...weights[0].sizes, ...weights[weights.length - 1].sizes].every((size) => size % 8 === 0);

/** The result of `make`, made while a copy of the weights in the type of x exists, where they are of another and go through one kernel. */
function withCast(x: Value, weights: readonly Value[], make_: () => Value): Value {
  const copy = together(x, weights) && weights[0].dtype !== x.dtype ? make([weights.length, ...weights[0].sizes], x.dtype, x.device) : null;
  const result = make_();
  drop(copy);
  return result;
}

/** Gradients of weights of all experts, some at a time, before they are added to their sums. */
function addTogether(sums: readonly Value[], x: Value): void {
  const most = Math.max(1, Math.floor(GROUPED_ELEMENTS / sums[0].count));
  drop(make([Math.min(most, sums.length), ...sums[0].sizes], x.dtype, x.device));
}

/** native/grouped_swiglu.cpp: gradients of weights are added to those that are there, where types differ through a product of its own and a copy. */
export function groupedSwiglu(x: Value, gateUp: readonly Value[], down: readonly Value[], rows: readonly number[]): Value {
  const width = down[0].sizes[1];
  const weights = [...gateUp, ...down];
  const casts = castPlaces(x, weights, rows);
  const both = withCast(x, gateUp, () => matrix(x.sizes[0], 2 * width, x));
  // Without a graph it takes the place of the gate.
  const inner = records([x, ...weights]) ? matrix(x.sizes[0], width, x) : null;
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  for (const each of [inner, casts]) drop(each);
  const result = record(y, [x, ...weights], [x, both, ...weights], (dy, [toX, ...toWeights]) => {
    const dense = contiguous(dy);
    const has = (i: number): boolean => toWeights[i] && rows[i % rows.length] > 0;
    const made = weights.map((weight, i) => (has(i) && weight.grad === null ? make(weight.sizes, weight.dtype, weight.device) : null));
    const buffers = weights.map((weight, i) => (has(i) ? (made[i] ?? weight.grad) : null));
    const ofOtherType = (buffer: Value | null): boolean => buffer !== null && buffer.dtype !== x.dtype;
    const places = castPlaces(x, weights, rows, buffers.some(ofOtherType));
    const grouped = together(x, weights) && made.every((each) => each === null);
    const addAlone = (first: number): void => {
      const sums = buffers.slice(first, first + rows.length).filter((buffer) => buffer !== null);
      if (grouped) return void (sums.length > 0 && addTogether(sums, x));
      for (const buffer of buffers.slice(first, first + rows.length)) {
        if (buffer === null || !ofOtherType(buffer) || addsWide(buffer, x)) continue;
        const gradient = make(buffer.sizes, x.dtype, x.device);
        if (x.device === "cpu" && !made.includes(buffer)) drop(castTo(gradient, buffer.dtype));
        drop(gradient);
      }
    };
    const [silu, product] = [matrix(x.sizes[0], width, x), matrix(x.sizes[0], width, x)];
    addAlone(rows.length);
    const dInner = together(x, weights) ? withCast(x, down, () => matrix(x.sizes[0], width, x)) : null;
    const before = together(x, weights) ? null : toX ? matrix(x.sizes[0], x.sizes[1], x) : null;
    addAlone(0);
    const dx = before ?? (toX ? withCast(x, gateUp, () => matrix(x.sizes[0], x.sizes[1], x)) : null);
    for (const each of [silu, product, dInner, places, dense]) drop(each);
    return [dx, ...made];
  });
  drop(both);
  return result;
}

/** The same with room for what is kept: no product or gradient of a weight is made. */
export function groupedSwigluKeep(
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
  const inner = matrix(x.sizes[0], width, x);
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  for (const each of [inner, casts]) drop(each);
  return record(y, [x], [x, ...kept, ...weights], (dy) => {
    const made = [contiguous(dy), castPlaces(x, weights, rows), matrix(x.sizes[0], width, x), matrix(x.sizes[0], width, x)];
    const dx = matrix(x.sizes[0], x.sizes[1], x);
    for (const each of made) drop(each);
    return [dx];
  });
}

/** Products of another type than the sums are whole, one at a time, before they are added, which copies them. */
export function expertGradients(
  sums: readonly Value[],
  _dy: Value,
  x: Value,
  rows: readonly number[],
  first: number,
  add: boolean,
): boolean {
  if (
    together(
      x,
      sums.map(() => x),
    ) &&
    sums[0].sizes.every((size) => size % 8 === 0)
  ) {
    addTogether(sums, x);
    return true;
  }
  for (const [i, sum] of sums.entries()) {
    if (rows[first + i] === 0 || sum.dtype === x.dtype || addsWide(sum, x)) continue;
    const product = make(sum.sizes, x.dtype, x.device);
    if (x.device === "cpu" && add) drop(castTo(product, sum.dtype));
    drop(product);
  }
  return true;
}
