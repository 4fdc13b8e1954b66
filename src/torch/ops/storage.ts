// Operators that make, fill, copy, cast, move, concatenate and read tensors with bytes of their own. For those with
// long lists of arguments, `tensor.ts` has the forms that the project uses.
import { castTo } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { dimOf } from "../shadow/shapes.js";
import { hold, make, type Value, viewOf } from "../shadow/values.js";
import { type DType, type N, op, type T } from "./row.js";
import { writtenOver } from "./rules.js";

const fresh = (sizes: readonly number[], dtype: DType, _layout: null, device: string): Value =>
  make(sizes, dtype, device);

export const newEmpty = op<(size: N[], dtype: DType, layout: null, device: string, pinned?: boolean) => T>(
  "aten::empty.memory_format(int[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None) -> Tensor",
  fresh,
);
export const newZeros = op<(size: N[], dtype: DType, layout: null, device: string) => T>(
  "aten::zeros(int[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor",
  fresh,
);
export const newFull = op<(size: N[], value: N, dtype: DType, layout: null, device: string) => T>(
  "aten::full(int[] size, Scalar fill_value, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor",
  (sizes, _value, dtype, _layout, device) => make(sizes, dtype, device),
);
/** Whole numbers from `start` up to but not including `end`. */
export const arange = op<(start: N, end: N, dtype: DType, layout: null, device: string) => T>(
  "aten::arange.start(Scalar start, Scalar end, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor",
  (start, end, dtype, _layout, device) => make([end - start], dtype, device),
);
/** In a plan, every number that is read is 1. */
export const readItem = op<(a: T) => N>("aten::item(Tensor self) -> Scalar", () => 1);
export const toDevice = op<(a: T, device: string, dtype: DType) => T>(
  "aten::to.device(Tensor(a) self, Device device, ScalarType dtype, bool non_blocking=False, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)",
  (x, device, dtype) => {
    if (x.device === device && x.dtype === dtype) return hold(x);
    return record(make(x.sizes, dtype, device), [x], [], () => [make(x.sizes, x.dtype, x.device)]);
  },
);
export const cast = op<(a: T, dtype: DType, nonBlocking?: boolean, copy?: boolean) => T>(
  "aten::to.dtype(Tensor(a) self, ScalarType dtype, bool non_blocking=False, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)",
  (x, dtype, _nonBlocking, copy = false) => {
    if (x.dtype === dtype && !copy) return hold(x);
    return record(castTo(x, dtype, copy), [x], [], (dy) => [castTo(dy, x.dtype)]);
  },
);
export const clone = op<(a: T) => T>("aten::clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor", (x) =>
  record(castTo(x, x.dtype, true), [x], [], (dy) => [hold(dy)]),
);
export const copy_ = op<(self: T, source: T) => T>(
  "aten::copy_(Tensor(a!) self, Tensor src, bool non_blocking=False) -> Tensor(a!)",
  writtenOver,
);
export const fill_ = op<(a: T, value: N) => T>(
  "aten::fill_.Scalar(Tensor(a!) self, Scalar value) -> Tensor(a!)",
  writtenOver,
);
export const cat = op<(tensors: T[], dim?: N) => T>(
  "aten::cat(Tensor[] tensors, int dim=0) -> Tensor",
  (parts, dim = 0) => {
    const [first] = parts;
    const at = dimOf(dim, first.sizes.length);
    // A part that stands for several counts several times.
    const length = parts.reduce((sum, part) => sum + part.sizes[at] * part.copies, 0);
    const sizes = first.sizes.map((size, i) => (i === at ? length : size));
    return record(make(sizes, first.dtype, first.device), parts, [], (dy, needed) =>
      parts.map((part, i) => (needed[i] ? viewOf(dy, part.sizes, dy.strides) : null)),
    );
  },
);
/** Takes the memory, sizes and values of another tensor; gives up its own. */
export const setStorage_ = op<(x: T, source: T) => T>(
  "aten::set_.source_Tensor(Tensor(a!) self, Tensor source) -> Tensor(a!)",
  (x, source) => {
    x.takeStorage(source);
    return x;
  },
);
