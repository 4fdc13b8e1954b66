// What most operators consist of: elementwise work with broadcasting and promotion, casts, sums. Each result is the
// caller's. On the CPU, inputs whose dtype is not the common one are copied first (TensorIterator's
// promote_inputs_to_common_dtype); a GPU converts them on the way.
import { DTYPES, type DType } from "../types.js";
import { broadcast, countOf, expandStrides, rowMajor, stridesLike } from "./shapes.js";
import { drop, make, type Value, viewOf } from "./values.js";
import { isCpu } from "../device-name.js";

const FLOATS: readonly DType[] = ["bfloat16", "float16", "float32", "float64"];
const rank = (dtype: DType): number =>
  FLOATS.includes(dtype) ? 10 + FLOATS.indexOf(dtype) : DTYPES[dtype] - (dtype === "bool" ? 1 : 0);

/**
 * The dtype of two tensors' sum. If both are floats or both are not, a tensor without dimensions takes the other's
 * dtype.
 */
function promoted(a: Value, b: Value): DType {
  const kind = (value: Value): number => (FLOATS.includes(value.dtype) ? 1 : 0);
  if (kind(a) !== kind(b)) return kind(a) > kind(b) ? a.dtype : b.dtype;
  if ((a.sizes.length === 0) !== (b.sizes.length === 0)) return a.sizes.length === 0 ? b.dtype : a.dtype;
  return rank(a.dtype) >= rank(b.dtype) ? a.dtype : b.dtype;
}

/** A new tensor with the broadcast size of all inputs; the operator's temporaries are made and dropped. */
export function elementwise(inputs: readonly Value[], dtype?: DType): Value {
  const sizes = inputs.reduce<readonly number[]>((all, { sizes }) => broadcast(all, sizes), []);
  const common = inputs.reduce(
    (type, input) => (type === input.dtype ? type : promoted(inputs[0], input)),
    inputs[0].dtype,
  );
  const whole = inputs.find((input) => input.sizes.length === sizes.length && input.count === countOf(sizes));
  const strides = whole === undefined ? rowMajor(sizes) : stridesLike(whole.sizes, whole.strides);
  const copies = copiesFor(inputs, common);
  const out = make(sizes, dtype ?? common, inputs[0].device, strides);
  for (const copy of copies) drop(copy);
  return out;
}

/** The same in place: nothing stays, but copies exist for a time. */
export function inPlace(target: Value, inputs: readonly Value[]): void {
  // The target is read and written: it counts as two operands.
  const all = [target, target, ...inputs];
  const common = inputs.reduce((type, input) => (type === input.dtype ? type : promoted(target, input)), target.dtype);
  for (const copy of copiesFor(all, common)) drop(copy);
}

function copiesFor(inputs: readonly Value[], common: DType): Value[] {
  return inputs
    .filter(({ dtype, device }) => dtype !== common && isCpu(device))
    .map(({ sizes, strides }) => make(sizes, common, "cpu", stridesLike(sizes, strides)));
}

export const add = (a: Value, b: Value): Value => elementwise([a, b]);

/** A view of `value` if nothing changes and no copy is asked for; else a new tensor. */
export function castTo(
  value: Value,
  dtype: DType,
  copy = false,
  strides: readonly number[] = stridesLike(value.sizes, value.strides),
): Value {
  if (value.dtype === dtype && !copy) return viewOf(value, value.sizes, value.strides);
  return make(value.sizes, dtype, value.device, strides);
}

export const contiguous = (value: Value): Value =>
  value.contiguous ? viewOf(value, value.sizes, value.strides) : make(value.sizes, value.dtype, value.device);

export const zerosLike = (value: Value): Value => make(value.sizes, value.dtype, value.device);

/** The sum over the dimensions that were broadcast; consumes `value`. */
export function sumTo(value: Value, sizes: readonly number[]): Value {
  if (value.sizes.length === sizes.length && value.sizes.every((size, i) => size === sizes[i])) return value;
  if (value.count === countOf(sizes)) {
    const view = viewOf(value, sizes, rowMajor(sizes));
    drop(value);
    return view;
  }
  const out = make(sizes, value.dtype, value.device);
  drop(value);
  return out;
}

export const expanded = (value: Value, sizes: readonly number[]): Value =>
  viewOf(value, sizes, expandStrides(value.sizes, value.strides, sizes));
