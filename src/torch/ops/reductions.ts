// Sums, extremes and norms of everything or along dimensions; the largest and the order of elements; comparisons.
import { elementwise, expanded, zerosLike } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { realEngine } from "../shadow/real-engine.js";
import { rowMajor } from "../shadow/shapes.js";
import { drop, make, type Value, viewOf } from "../shadow/values.js";
import { type DType, type N, neverPlanned, op, type T } from "./row.js";
import { sharedEvenly, withoutDims } from "./rules.js";
import { cast } from "./storage.js";

const scalarOf = (x: Value): Value => make([], x.dtype, x.device);
const extreme = (x: Value, dims: readonly number[] = [], keep = false): Value =>
  make(withoutDims(x.sizes, dims, keep), x.dtype, x.device);
/** Elements of x and their places; the gradient writes the elements' gradients to these places. */
function picked(x: Value, sizes: readonly number[]): [Value, Value] {
  const [values, indices] = [make(sizes, x.dtype, x.device), make(sizes, "int64", x.device)];
  return [record(values, [x], [indices], () => [zerosLike(x)]), indices];
}

function reduced(x: Value, dims: readonly number[], keep: boolean, dtype: DType, divided: boolean): Value {
  const y = make(withoutDims(x.sizes, dims, keep), dtype, x.device);
  const kept = withoutDims(x.sizes, dims, true);
  // Before 2.0, a mean saves its input, to get its number of elements from it.
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

export const sum = op<(a: T) => T>("aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor", scalarOf);
export const sumDim = op<(a: T, dims: N[], keepdim?: boolean, dtype?: DType) => T>(
  "aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
  (x, dims, keep = false, dtype) => reduced(x, dims, keep, dtype ?? x.dtype, false),
);
export const meanDim = op<(a: T, dims: N[], keepdim?: boolean) => T>(
  "aten::mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
  (x, dims, keep = false) => reduced(x, dims, keep, x.dtype, true),
);
export const amax = op<(a: T, dims?: N[], keepdim?: boolean) => T>(
  "aten::amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor",
  extreme,
);
export const amin = op<(a: T, dims?: N[], keepdim?: boolean) => T>(
  "aten::amin(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor",
  extreme,
);
export const aminmax = op<(a: T) => [least: T, most: T]>(
  "aten::aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (Tensor min, Tensor max)",
  (x) => [scalarOf(x), scalarOf(x)],
);
/** sqrt(sum of squares), over everything or along some dimensions. */
export const vectorNorm = op<(x: T, order: 2, dims?: N[] | null) => T>(
  "aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
  (x, _order, dims) => extreme(x, dims ?? []),
);
export const logsumexp = op<(a: T, dims: N[], keepdim?: boolean) => T>(
  "aten::logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor",
  (x, dims, keep = false) => {
    const y = make(withoutDims(x.sizes, dims, keep), x.dtype, x.device);
    drop(elementwise([x]));
    return y;
  },
);
export const softmax = op<(a: T, dim: N, dtype?: DType) => T>(
  "aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
  (x, _dim, dtype) => {
    const wide = cast.rule(x, dtype ?? x.dtype);
    const y = elementwise([wide]);
    const result = record(y, [wide], [y], (dy) => [zerosLike(dy)]);
    drop(wide);
    return result;
  },
);
export const topk = op<(a: T, k: N, dim: N) => [values: T, indices: T]>(
  "aten::topk(Tensor self, int k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)",
  (x, k) => picked(x, [...x.sizes.slice(0, -1), k]),
);
export const sortStable = op<(a: T, stable: true, dim: N, descending?: boolean) => [values: T, indices: T]>(
  "aten::sort.stable(Tensor self, *, bool? stable, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)",
  (x) => picked(x, x.sizes),
);
export const bincount = op<(a: T, weights: null, minLength: N) => T>(
  "aten::bincount(Tensor self, Tensor? weights=None, int minlength=0) -> Tensor",
  (x, _weights, least) => sharedEvenly(x, least),
);
export const isNan = op<(a: T) => T>("aten::isnan(Tensor self) -> Tensor", neverPlanned("it reads weights"));
export const isInf = op<(a: T) => T>("aten::isinf(Tensor self) -> Tensor", neverPlanned("it reads weights"));
export const gt = op<(a: T, b: T) => T>("aten::gt.Tensor(Tensor self, Tensor other) -> Tensor", (a, b) =>
  elementwise([a, b], "bool"),
);
export const lt = op<(a: T, b: N) => T>("aten::lt.Scalar(Tensor self, Scalar other) -> Tensor", (x) =>
  elementwise([x], "bool"),
);
export const equal = op<(a: T, b: T) => boolean>("aten::equal(Tensor self, Tensor other) -> bool", () => true);
