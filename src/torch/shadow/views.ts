// Operators that lay a tensor out anew: views, which share its bytes, and the copies that are made where no view can be.
// Sizes, strides and gradients as libtorch has them.
import { DTYPES, type DType } from "../tensor.js";
import { record } from "./gradients.js";
import { dimOf, expandStrides, inferred, isContiguous, rowMajor, viewStrides } from "./shapes.js";
import { hold, make, type Value, viewOf } from "./values.js";

export function narrow(x: Value, dim: number, _start: number, length: number): Value {
  const at = dimOf(dim, x.sizes.length);
  const y = viewOf(
    x,
    x.sizes.map((size, i) => (i === at ? length : size)),
    x.strides,
  );
  return record(y, [x], [], () => [make(x.sizes, x.dtype, x.device)]);
}

export function select(x: Value, dim: number): Value {
  const at = dimOf(dim, x.sizes.length);
  const without = (list: readonly number[]): number[] => list.filter((_, i) => i !== at);
  return record(viewOf(x, without(x.sizes), without(x.strides)), [x], [], () => [make(x.sizes, x.dtype, x.device)]);
}

export function reshape(x: Value, wanted: readonly number[]): Value {
  const sizes = inferred(wanted, x.count);
  const strides = viewStrides(x.sizes, x.strides, sizes);
  const y = strides === null ? make(sizes, x.dtype, x.device) : viewOf(x, sizes, strides);
  return record(y, [x], [], (dy) => [reshape(dy, x.sizes)]);
}

export function view(x: Value, wanted: readonly number[]): Value {
  return reshape(x, wanted);
}

export function transpose(x: Value, a: number, b: number): Value {
  const swapped = (list: readonly number[]): number[] => {
    const [i, j] = [dimOf(a, list.length), dimOf(b, list.length)];
    return list.map((value, k) => (k === i ? list[j] : k === j ? list[i] : value));
  };
  return record(viewOf(x, swapped(x.sizes), swapped(x.strides)), [x], [], (dy) => [transpose(dy, a, b)]);
}

export function expand(x: Value, wanted: readonly number[]): Value {
  const offset = wanted.length - x.sizes.length;
  const sizes = wanted.map((size, i) => (size === -1 ? x.sizes[i - offset] : size));
  return record(viewOf(x, sizes, expandStrides(x.sizes, x.strides, sizes)), [x], [], (dy) => [hold(dy)]);
}

export function unsqueeze(x: Value, dim: number): Value {
  const at = dimOf(dim, x.sizes.length + 1);
  const sizes = [...x.sizes.slice(0, at), 1, ...x.sizes.slice(at)];
  const step = at < x.sizes.length ? x.sizes[at] * x.strides[at] : 1;
  const y = viewOf(x, sizes, [...x.strides.slice(0, at), step, ...x.strides.slice(at)]);
  return record(y, [x], [], (dy) => [reshape(dy, x.sizes)]);
}

export function unbind(x: Value, dim = 0): Value[] {
  return Array.from({ length: x.sizes[dimOf(dim, x.sizes.length)] }, () => select(x, dim));
}

export function cat(parts: readonly Value[], dim = 0): Value {
  const at = dimOf(dim, parts[0].sizes.length);
  // A part that stands for several is there several times.
  const length = parts.reduce((sum, part) => sum + part.sizes[at] * part.copies, 0);
  const y = make(
    parts[0].sizes.map((size, i) => (i === at ? length : size)),
    parts[0].dtype,
    parts[0].device,
  );
  return record(y, parts, [], (dy, needed) =>
    parts.map((part, i) => (needed[i] ? viewOf(dy, part.sizes, dy.strides) : null)),
  );
}

export function copied(x: Value): Value {
  if (x.contiguous) return hold(x);
  return record(make(x.sizes, x.dtype, x.device), [x], [], (dy) => [hold(dy)]);
}

export function viewAs(x: Value, dtype: DType): Value {
  const last = x.sizes.length - 1;
  const sizes = x.sizes.map((size, i) => (i === last ? (size * DTYPES[x.dtype]) / DTYPES[dtype] : size));
  return viewOf(x, sizes, isContiguous(x.sizes, x.strides) ? rowMajor(sizes) : x.strides, dtype);
}
