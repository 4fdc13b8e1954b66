// Operators that change a tensor's layout: views, which share its bytes, and copies if no view is possible. Sizes,
// strides and gradients are those of libtorch.
import { record } from "../shadow/gradients.js";
import { dimOf, expandStrides, inferred, isContiguous, rowMajor, viewStrides } from "../shadow/shapes.js";
import { hold, make, type Value, viewOf } from "../shadow/values.js";
import { DTYPES } from "../types.js";
import { cuttingOp, type DType, type N, op, type T } from "./row.js";

function reshaped(x: Value, wanted: readonly number[]): Value {
  const sizes = inferred(wanted, x.count);
  const strides = viewStrides(x.sizes, x.strides, sizes);
  const y = strides === null ? make(sizes, x.dtype, x.device) : viewOf(x, sizes, strides);
  return record(y, [x], [], (dy) => [reshaped(dy, x.sizes)]);
}

function transposed(x: Value, a: number, b: number): Value {
  const swapped = (list: readonly number[]): number[] => {
    const [i, j] = [dimOf(a, list.length), dimOf(b, list.length)];
    return list.map((value, k) => (k === i ? list[j] : k === j ? list[i] : value));
  };
  return record(viewOf(x, swapped(x.sizes), swapped(x.strides)), [x], [], (dy) => [transposed(dy, a, b)]);
}

function selected(x: Value, dim: number): Value {
  const at = dimOf(dim, x.sizes.length);
  const without = (list: readonly number[]): number[] => list.filter((_, i) => i !== at);
  return record(viewOf(x, without(x.sizes), without(x.strides)), [x], [], () => [make(x.sizes, x.dtype, x.device)]);
}

export const view = op<(a: T, size: N[]) => T>("aten::view(Tensor(a) self, int[] size) -> Tensor(a)", reshaped);
export const reshape = op<(a: T, size: N[]) => T>("aten::reshape(Tensor(a) self, int[] shape) -> Tensor(a)", reshaped);
export const viewDtype = op<(a: T, dtype: DType) => T>(
  "aten::view.dtype(Tensor(a) self, ScalarType dtype) -> Tensor(a)",
  (x, dtype) => {
    const last = x.sizes.length - 1;
    const sizes = x.sizes.map((size, i) => (i === last ? (size * DTYPES[x.dtype]) / DTYPES[dtype] : size));
    return viewOf(x, sizes, isContiguous(x.sizes, x.strides) ? rowMajor(sizes) : x.strides, dtype);
  },
);
export const detach = cuttingOp<(a: T) => T>("aten::detach(Tensor(a) self) -> Tensor(a)", (x) =>
  viewOf(x, x.sizes, x.strides),
);
export const contiguous = op<(a: T) => T>(
  "aten::contiguous(Tensor(a) self, *, MemoryFormat memory_format=0) -> Tensor(a)",
  (x) => {
    if (x.contiguous) return hold(x);
    return record(make(x.sizes, x.dtype, x.device), [x], [], (dy) => [hold(dy)]);
  },
);
export const narrow = op<(a: T, dim: N, start: N, length: N) => T>(
  "aten::narrow(Tensor(a) self, int dim, int start, int length) -> Tensor(a)",
  (x, dim, _start, length) => {
    const at = dimOf(dim, x.sizes.length);
    const sizes = x.sizes.map((size, i) => (i === at ? length : size));
    return record(viewOf(x, sizes, x.strides), [x], [], () => [make(x.sizes, x.dtype, x.device)]);
  },
);
export const select = op<(a: T, dim: N, index: N) => T>(
  "aten::select.int(Tensor(a) self, int dim, int index) -> Tensor(a)",
  selected,
);
export const unbind = op<(a: T, dim?: N) => T[]>(
  "aten::unbind.int(Tensor(a -> *) self, int dim=0) -> Tensor(a)[]",
  (x, dim = 0) => {
    const at = dimOf(dim, x.sizes.length);
    const without = (list: readonly number[]): number[] => list.filter((_, i) => i !== at);
    const [sizes, strides] = [without(x.sizes), without(x.strides)];
    const parts = Array.from({ length: x.sizes[at] }, () => viewOf(x, sizes, strides));
    return record(parts, [x], [], () => [make(x.sizes, x.dtype, x.device)]);
  },
);
export const transpose = op<(a: T, dim0: N, dim1: N) => T>(
  "aten::transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)",
  transposed,
);
export const expand = op<(a: T, size: N[]) => T>(
  "aten::expand(Tensor(a) self, int[] size, *, bool implicit=False) -> Tensor(a)",
  (x, wanted) => {
    const offset = wanted.length - x.sizes.length;
    const sizes = wanted.map((size, i) => (size === -1 ? x.sizes[i - offset] : size));
    return record(viewOf(x, sizes, expandStrides(x.sizes, x.strides, sizes)), [x], [], (dy) => [hold(dy)]);
  },
);
export const unsqueeze = op<(a: T, dim: N) => T>("aten::unsqueeze(Tensor(a) self, int dim) -> Tensor(a)", (x, dim) => {
  const at = dimOf(dim, x.sizes.length + 1);
  const sizes = [...x.sizes.slice(0, at), 1, ...x.sizes.slice(at)];
  const step = at < x.sizes.length ? x.sizes[at] * x.strides[at] : 1;
  const y = viewOf(x, sizes, [...x.strides.slice(0, at), step, ...x.strides.slice(at)]);
  return record(y, [x], [], (dy) => [reshaped(dy, x.sizes)]);
});
