// Products of matrices, and eigenvectors.
import { zerosLike } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { stridesLike } from "../shadow/shapes.js";
import { drop, hold, make, type Value } from "../shadow/values.js";
import { type N, newerOp, op, type T } from "./row.js";
import { matrix, needs } from "./rules.js";
import { transpose, view } from "./views.js";

/**
 * a [N, K] b [K, M], into `out` if given; a factor in which neither rows nor columns are contiguous is copied for the
 * BLAS.
 */
function multiplied(a: Value, b: Value, out?: Value): Value {
  const copies = [a, b]
    .filter(({ strides }) => strides[0] !== 1 && strides[1] !== 1)
    .map((factor) => make(factor.sizes, factor.dtype, factor.device));
  const y = out ?? matrix(a.sizes[0], b.sizes[1], a);
  for (const copy of copies) drop(copy);
  return y;
}

const product = (a: Value, b: Value): Value =>
  record(multiplied(a, b), [a, b], [needs(b) ? a : null, needs(a) ? b : null], (dy, [toA, toB]) => [
    toA ? matrix(a.sizes[0], a.sizes[1], a) : null,
    // Computed in the layout of b.
    toB ? make(b.sizes, b.dtype, dy.device, stridesLike(b.sizes, b.strides)) : null,
  ]);

const batched = (a: Value, b: Value): Value => make([a.sizes[0], a.sizes[1], b.sizes[2]], a.dtype, a.device);

export const mm = op<(a: T, b: T) => T>("aten::mm(Tensor self, Tensor mat2) -> Tensor", product);
/** out = a b. */
export const mmInto_ = op<(a: T, b: T, out: T) => T>(
  "aten::mm.out(Tensor self, Tensor mat2, *, Tensor(a!) out) -> Tensor(a!)",
  multiplied,
);
export const bmm = op<(a: T, b: T) => T>("aten::bmm(Tensor self, Tensor mat2) -> Tensor", (a, b) =>
  record(batched(a, b), [a, b], [needs(b) ? a : null, needs(a) ? b : null], (_dy, [toA, toB]) => [
    toA ? make(a.sizes, a.dtype, a.device) : null,
    toB ? make(b.sizes, b.dtype, b.device) : null,
  ]),
);
export const baddbmm = op<(self: T, a: T, b: T, beta: N, alpha: N) => T>(
  "aten::baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
  (_self, a, b) => batched(a, b),
);
export const addmm = op<(self: T, a: T, b: T, beta: N, alpha: N) => T>(
  "aten::addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
  (_self, a, b) => multiplied(a, b),
);
/** self = beta self + alpha a b; with beta 0, the old values of self are ignored. */
export const addmm_ = op<(self: T, a: T, b: T, beta: N, alpha: N) => T>(
  "aten::addmm_(Tensor(a!) self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor(a!)",
  (self, a, b) => multiplied(a, b, self),
);
/** out = beta self + a b in float32, for factors in bfloat16 or float16; only on CUDA. */
export const addmmWide = newerOp<(self: T, a: T, b: T, type: "float32", beta: N, alpha: N, out: T) => T>(
  "aten::addmm.dtype_out(Tensor self, Tensor mat1, Tensor mat2, ScalarType out_dtype, *, Scalar beta=1, Scalar alpha=1, Tensor(a!) out) -> Tensor(a!)",
  (_self, _a, _b, _type, _beta, _alpha, out) => hold(out),
);
export const outer = op<(a: T, b: T) => T>("aten::outer(Tensor self, Tensor vec2) -> Tensor", (a, b) =>
  make([a.count, b.count], a.dtype, a.device),
);
export const linear = op<(x: T, weight: T, bias?: T | null) => T>(
  "aten::linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
  (x, weight, bias = null) => {
    const turned = transpose.rule(weight, 0, 1);
    const isFlat = x.sizes.length === 2;
    const flat = isFlat ? hold(x) : view.rule(x, [-1, x.sizes[x.sizes.length - 1]]);
    const y = record(
      matrix(flat.sizes[0], weight.sizes[0], x),
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
    if (isFlat) return y;
    const result = view.rule(y, [...x.sizes.slice(0, -1), weight.sizes[0]]);
    drop(y);
    return result;
  },
);
/** LAPACK writes matrices by columns. */
const byColumns = ({ sizes: [count, rows, columns], dtype, device }: Value): Value =>
  make([count, rows, columns], dtype, device, [rows * columns, 1, rows]);

/**
 * Solves A X = B for triangular A. The other triangle is not read; with `unit`, neither is the diagonal, which is then
 * 1.
 */
export const solveTriangular = op<(a: T, b: T, upper: boolean, left: true, unit: boolean) => T>(
  "aten::linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True, bool unitriangular=False) -> Tensor",
  (a, b) => {
    const x = byColumns(b);
    return record(x, [a, b], [a, x], (_dy, [toA, toB]) => {
      const db = byColumns(b);
      const [product, negative] = toA ? [zerosLike(a), zerosLike(a)] : [null, null];
      drop(product);
      const da = toA ? zerosLike(a) : null;
      drop(negative);
      if (toB) return [da, db];
      drop(db);
      return [da, null];
    });
  },
);
// syevd overwrites the matrix with its vectors; work space is 1 + 6 N + 2 N^2 and 3 + 5 N (LAPACK).
export const linalgEigh = op<(a: T) => [values: T, vectors: T]>(
  'aten::linalg_eigh(Tensor self, str UPLO="L") -> (Tensor eigenvalues, Tensor eigenvectors)',
  (x) => {
    const n = x.sizes[0];
    const [values, vectors] = [make([n], x.dtype, x.device), make([n, n], x.dtype, x.device, [1, n])];
    const work = [
      make([1 + 6 * n + 2 * n * n], x.dtype, x.device),
      make([3 + 5 * n], "int32", x.device),
      make([], "int32", x.device),
    ];
    for (const each of work) drop(each);
    return [values, vectors];
  },
);
