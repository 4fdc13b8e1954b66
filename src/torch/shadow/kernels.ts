// What operators do as far as memory goes: the results' sizes, what a graph saves, and what gradients need on the way.
// Follows libtorch's derivatives.yaml and CPU kernels; how near it comes is measured in plan/grid.test.ts.
import type { DType } from "../tensor.js";
import { castTo, elementwise, expanded, inPlace, zerosLike } from "./arithmetic.js";
import { record } from "./gradients.js";
import { realEngine } from "./real-engine.js";
import { dimOf, rowMajor, stridesLike } from "./shapes.js";
import { drop, hold, make, type Value, viewOf } from "./values.js";
import { transpose, view } from "./views.js";

export const scalarOf = (value: Value, dtype = value.dtype): Value => make([], dtype, value.device);
const isFloat = (dtype: DType): boolean => dtype.includes("float");

// --- element by element

/** y = f(x), whose gradient is one product with something that is kept. */
export const unary = (saves: "input" | "result" | "nothing") => (x: Value) => {
  const y = elementwise([x]);
  return record(y, [x], saves === "nothing" ? [] : [saves === "input" ? x : y], (dy) => [elementwise([dy])]);
};
export const plain = (x: Value): Value => elementwise([x]);
export const changed = (x: Value, ...others: unknown[]): Value => {
  inPlace(
    x,
    others.filter((other): other is Value => other instanceof Object && "storage" in other),
  );
  return x;
};
export const addition = (a: Value, b: Value): Value =>
  record(elementwise([a, b]), [a, b], [], (dy, needed) => needed.map((is) => (is ? hold(dy) : null)));
/** A number is a tensor of one element to libtorch; whole tensors become floats where it is a fraction. */
export const withNumber = (x: Value, number: number): Value =>
  elementwise([x], isFloat(x.dtype) || Number.isInteger(number) ? x.dtype : "float32");

export function product(a: Value, b: Value): Value {
  return record(elementwise([a, b]), [a, b], [needs(b) ? a : null, needs(a) ? b : null], (dy, [toA, toB]) => [
    toA ? elementwise([dy, b]) : null,
    toB ? elementwise([dy, a]) : null,
  ]);
}
const needs = (value: Value): boolean => value.requiresGrad;

export function quotient(a: Value, b: Value): Value {
  return record(elementwise([a, b]), [a, b], [needs(b) ? a : null, b], (dy, [toA, toB]) => {
    const da = toA ? elementwise([dy, b]) : null;
    if (!toB) return [da, null];
    const [once, twice, negative] = [elementwise([a, b]), elementwise([a, b]), elementwise([dy])];
    const db = elementwise([negative, twice]);
    for (const value of [once, twice, negative]) drop(value);
    return [da, db];
  });
}

// x^2; its gradient is dy * (2 * x^1), each a tensor.
export function square(x: Value): Value {
  return record(elementwise([x]), [x], [x], (dy) => {
    const [power, twice] = [elementwise([x]), elementwise([x])];
    const dx = elementwise([dy, twice]);
    drop(power);
    drop(twice);
    return [dx];
  });
}

export function rsqrt(x: Value): Value {
  const y = elementwise([x]);
  return record(y, [x], [y], (dy) => {
    const [half, cube] = [elementwise([dy]), elementwise([y])];
    const dx = elementwise([half, cube]);
    drop(half);
    drop(cube);
    return [dx];
  });
}

export function clamp(x: Value): Value {
  return record(elementwise([x]), [x], [x], (dy) => {
    const masks = [0, 1, 2].map(() => make(x.sizes, "bool", x.device));
    const dx = elementwise([dy]);
    for (const mask of masks) drop(mask);
    return [dx];
  });
}

export function cast(x: Value, dtype: DType, _nonBlocking = false, copy = false): Value {
  if (x.dtype === dtype && !copy) return hold(x);
  const y = castTo(x, dtype, copy);
  return record(y, [x], [], (dy) => [castTo(dy, x.dtype)]);
}

// --- products

export const matrix = (rows: number, columns: number, like: Value): Value =>
  make([rows, columns], like.dtype, like.device);

/** a [N, K] b [K, M]; a factor with rows and columns both apart is copied for the BLAS. */
export function mm(a: Value, b: Value): Value {
  const copies = [a, b]
    .filter(({ strides }) => strides[0] !== 1 && strides[1] !== 1)
    .map((factor) => make(factor.sizes, factor.dtype, factor.device));
  const y = matrix(a.sizes[0], b.sizes[1], a);
  for (const copy of copies) drop(copy);
  return record(y, [a, b], [needs(b) ? a : null, needs(a) ? b : null], (dy, [toA, toB]) => [
    toA ? matrix(a.sizes[0], a.sizes[1], a) : null,
    // Computed in the layout of b.
    toB ? make(b.sizes, b.dtype, dy.device, stridesLike(b.sizes, b.strides)) : null,
  ]);
}

export function linear(x: Value, weight: Value, bias: Value | null = null): Value {
  const turned = transpose(weight, 0, 1);
  const flat = x.sizes.length === 2 ? hold(x) : view(x, [-1, x.sizes[x.sizes.length - 1]]);
  const y = matrix(flat.sizes[0], weight.sizes[0], x);
  const result = record(
    y,
    [flat, turned, bias],
    [needs(turned) ? flat : null, needs(flat) ? turned : null],
    (dy, [toX, toWeight, toBias]) => [
      toX ? matrix(flat.sizes[0], flat.sizes[1], flat) : null,
      toWeight ? make(turned.sizes, turned.dtype, dy.device, turned.strides) : null,
      toBias ? make((bias as Value).sizes, dy.dtype, dy.device) : null,
    ],
  );
  drop(turned);
  drop(flat);
  return result;
}

export const batched = (a: Value, b: Value): Value => make([a.sizes[0], a.sizes[1], b.sizes[2]], a.dtype, a.device);

// --- sums and comparisons

export const withoutDims = (sizes: readonly number[], dims: readonly number[], keep: boolean): number[] => {
  const gone = dims.length === 0 ? [...sizes.keys()] : dims.map((dim) => dimOf(dim, sizes.length));
  return keep ? sizes.map((size, i) => (gone.includes(i) ? 1 : size)) : sizes.filter((_, i) => !gone.includes(i));
};

export function reduced(x: Value, dims: readonly number[], keep: boolean, dtype: DType, divided: boolean): Value {
  const y = make(withoutDims(x.sizes, dims, keep), dtype, x.device);
  const kept = withoutDims(x.sizes, dims, true);
  // Before 2.0, a mean saves its input to ask it for its number of elements.
  return record(y, [x], [divided && realEngine().version < 200 ? x : null], (dy) => {
    const column = viewOf(dy, kept, rowMajor(kept));
    const whole = expanded(column, x.sizes);
    drop(column);
    if (!divided) return [whole];
    const dx = make(x.sizes, dy.dtype, dy.device);
    drop(whole);
    return [dx];
  });
}

export function softmax(x: Value, _dim: number, dtype?: DType): Value {
  const wide = cast(x, dtype ?? x.dtype);
  const y = elementwise([wide]);
  const result = record(y, [wide], [y], (dy) => [zerosLike(dy)]);
  drop(wide);
  return result;
}

export function pair(x: Value, sizes: readonly number[]): Value[] {
  return [make(sizes, x.dtype, x.device), make(sizes, "int64", x.device)];
}

export function logsumexp(x: Value, dims: readonly number[], keep = false): Value {
  const y = make(withoutDims(x.sizes, dims, keep), x.dtype, x.device);
  drop(elementwise([x]));
  return y;
}

// --- rows by index

/** Rows of x; the gradient puts them back into zeros. */
export function rowsOf(x: Value, index: Value): Value {
  const y = make([index.count, ...x.sizes.slice(1)], x.dtype, x.device);
  return record(y, [x], [index], () => [zerosLike(x)]);
}

export function gather(x: Value, _dim: number, index: Value): Value {
  return record(make(index.sizes, x.dtype, x.device), [x], [x, index], () => [zerosLike(x)]);
}

/** Tokens shared evenly among experts: how many each really gets is not known before. */
export function bincount(x: Value, _weights: null, least = 0): Value {
  const counts = make([least], "int64", x.device);
  counts.storage.elements = Array.from({ length: least }, (_, i) => Math.floor((x.count + least - 1 - i) / least));
  return counts;
}

// --- fused attention, and what only optimisers use

/** Of an H100; other cards have from 40 to 192. */
const MULTIPROCESSORS = 132;

/** On a GPU, the backward pass with the same bits each time adds up gradients of queries in as many parts as keep its processors busy. */
function flashSums({ sizes: [one, heads, tokens, width], device }: Value): Value {
  const up = (size: number, unit: number): number => Math.ceil(size / unit) * unit;
  const parts = Math.ceil(MULTIPROCESSORS / (one * heads));
  return make([parts, one, up(tokens, 128), heads, up(width, width <= 128 ? 32 : 64)], "float32", device);
}

/** flash attention: the result lies [1, S, H, C]; a logarithm per query and head is kept beside queries, keys and values. */
export function attention(q: Value, k: Value, v: Value): Value {
  const [one, heads, tokens, width] = q.sizes;
  const out = make(q.sizes, q.dtype, q.device, [tokens * heads * width, width, heads * width, 1]);
  const sums = make([one, heads, tokens], "float32", q.device);
  const result = record(out, [q, k, v], [q, k, v, out, sums], () => {
    const work = q.device === "cpu" ? null : flashSums(q);
    const made = [q, k, v].map((input) => make(input.sizes, input.dtype, input.device));
    drop(work);
    return made;
  });
  drop(sums);
  return result;
}

/** syevd: the matrix is overwritten by its vectors; work space of 1 + 6 N + 2 N^2 and 3 + 5 N (LAPACK). */
export function eigh(x: Value): Value[] {
  const n = x.sizes[0];
  const [values, vectors] = [make([n], x.dtype, x.device), make([n, n], x.dtype, x.device, [1, n])];
  const work = [
    make([1 + 6 * n + 2 * n * n], x.dtype, x.device),
    make([3 + 5 * n], "int32", x.device),
    make([], "int32", x.device),
  ];
  for (const each of work) drop(each);
  return [values, vectors];
}

export const bits = (x: Value): Value => elementwise([x]);
export const fresh = (sizes: readonly number[], dtype: DType, _layout: null, device: string): Value =>
  make(sizes, dtype, device);
