// Rows by index, and triangles of matrices.
import { zerosLike } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { make, type Value } from "../shadow/values.js";
import { type N, op, type T } from "./row.js";
import { plain, writtenOver } from "./rules.js";

/** Rows of x; the gradient puts them back into zeros. */
const rowsOf = (x: Value, index: Value): Value =>
  record(make([index.count, ...x.sizes.slice(1)], x.dtype, x.device), [x], [index], () => [zerosLike(x)]);

export const embedding = op<(weight: T, indices: T) => T>(
  "aten::embedding(Tensor weight, Tensor indices, int padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor",
  rowsOf,
);
export const indexSelect = op<(a: T, dim: N, index: T) => T>(
  "aten::index_select(Tensor self, int dim, Tensor index) -> Tensor",
  (x, dim, index) => {
    if (dim === 0) return rowsOf(x, index);
    const sizes = x.sizes.map((size, i) => (i === dim ? index.count : size));
    return make(sizes, x.dtype, x.device);
  },
);
export const indexAdd_ = op<(self: T, dim: N, index: T, source: T) => T>(
  "aten::index_add_(Tensor(a!) self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor(a!)",
  writtenOver,
);
export const indexCopy_ = op<(self: T, dim: N, index: T, source: T) => T>(
  "aten::index_copy_(Tensor(a!) self, int dim, Tensor index, Tensor source) -> Tensor(a!)",
  writtenOver,
);
export const gather = op<(a: T, dim: N, index: T) => T>(
  "aten::gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor",
  (x, _dim, index) => record(make(index.sizes, x.dtype, x.device), [x], [x, index], () => [zerosLike(x)]),
);
export const scatterAdd_ = op<(self: T, dim: N, index: T, source: T) => T>(
  "aten::scatter_add_(Tensor(a!) self, int dim, Tensor index, Tensor src) -> Tensor(a!)",
  writtenOver,
);
export const tril = op<(a: T, diagonal?: N) => T>("aten::tril(Tensor self, int diagonal=0) -> Tensor", plain);
export const triu = op<(a: T, diagonal?: N) => T>("aten::triu(Tensor self, int diagonal=0) -> Tensor", plain);
