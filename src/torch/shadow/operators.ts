// Every operator we use, by its name in libtorch. An operator that is not here is an error, so a new one cannot be planned
// wrongly in silence.
import type { OpArgument } from "../binding.js";
import type { DType } from "../tensor.js";
import { castTo, elementwise } from "./arithmetic.js";
import { expertGradients, groupedSwiglu, groupedSwigluKeep } from "./experts.js";
import { record } from "./gradients.js";
import { hold, make, type Value, viewOf } from "./values.js";
import { cat, copied, expand, narrow, reshape, select, transpose, unbind, unsqueeze, view, viewAs } from "./views.js";
import {
  addition,
  attention,
  batched,
  bincount,
  bits,
  cast,
  changed,
  clamp,
  eigh,
  fresh,
  gather,
  linear,
  logsumexp,
  mm,
  pair,
  plain,
  product,
  quotient,
  reduced,
  rowsOf,
  rsqrt,
  scalarOf,
  softmax,
  square,
  unary,
  withNumber,
  withoutDims,
} from "./kernels.js";

/** Arguments in the schema's order, tensors as values. */
export type Argument = Value | Exclude<OpArgument, readonly OpArgument[]> | readonly Argument[];
export type Result = Value | Value[] | number | boolean;
type Operator = (...args: never[]) => Result;

const OPERATORS = {
  "aten::mm": mm,
  "aten::bmm": (a: Value, b: Value) => batched(a, b),
  "aten::baddbmm": (_c: Value, a: Value, b: Value) => batched(a, b),
  "aten::addmm": (_c: Value, a: Value, b: Value) => mm(a, b),
  "aten::linalg_eigh": eigh,
  "aten::linear": linear,
  "revmoe::grouped_swiglu": groupedSwiglu,
  "revmoe::grouped_swiglu_keep": groupedSwigluKeep,
  "revmoe::expert_gradients_": expertGradients,
  "aten::outer": (a: Value, b: Value) => make([a.count, b.count], a.dtype, a.device),

  "aten::add.Tensor": addition,
  // Of running maxima, which have no gradient.
  "aten::maximum": (a: Value, b: Value) => elementwise([a, b]),
  "aten::add_.Tensor": (a: Value, b: Value) => changed(a, b),
  "aten::add.Scalar": (x: Value, number: number) => record(withNumber(x, number), [x], [], (dy) => [hold(dy)]),
  "aten::add_.Scalar": changed,
  "aten::sub.Tensor": (a: Value, b: Value) => elementwise([a, b]),
  "aten::sub_.Tensor": (a: Value, b: Value) => changed(a, b),
  "aten::mul.Tensor": product,
  "aten::mul_.Tensor": (a: Value, b: Value) => changed(a, b),
  "aten::mul.Scalar": (x: Value, number: number) => record(withNumber(x, number), [x], [], (dy) => [elementwise([dy])]),
  "aten::mul_.Scalar": changed,
  "aten::div.Tensor": quotient,
  "aten::div_.Tensor": (a: Value, b: Value) => changed(a, b),
  "aten::neg": unary("nothing"),
  "aten::neg_": changed,
  "aten::sign_": changed,
  "aten::tanh_": changed,
  "aten::isnan": (x: Value) => elementwise([x], "bool"),
  "aten::isinf": (x: Value) => elementwise([x], "bool"),
  "aten::abs": plain,
  "aten::sqrt": plain,
  "aten::rsqrt": rsqrt,
  "aten::square": square,
  "aten::cos": plain,
  "aten::sin": plain,
  "aten::log": plain,
  "aten::reciprocal": plain,
  "aten::exp_": changed,
  "aten::silu": unary("input"),
  "aten::sigmoid": unary("result"),
  "aten::lerp_.Scalar": (a: Value, b: Value) => changed(a, b),
  "aten::addcmul_": (x: Value, a: Value, b: Value) => changed(x, a, b),
  "aten::addcdiv_": (x: Value, a: Value, b: Value) => changed(x, a, b),

  "aten::round_": changed,
  "aten::clamp": clamp,
  "aten::clamp_": changed,
  "aten::bitwise_and.Scalar": bits,
  "aten::bitwise_and_.Scalar": changed,
  "aten::bitwise_or_.Tensor": (a: Value, b: Value) => changed(a, b),
  "aten::bitwise_xor.Scalar": bits,
  "aten::__lshift__.Scalar": bits,
  "aten::__ilshift__.Scalar": changed,
  "aten::__rshift__.Scalar": bits,
  "aten::floor_divide": (a: Value, b: Value) => elementwise([a, b]),

  "aten::sum": (x: Value) => scalarOf(x),
  "aten::sum.dim_IntList": (x: Value, dims: number[], keep = false, dtype?: DType) =>
    reduced(x, dims, keep, dtype ?? x.dtype, false),
  "aten::mean.dim": (x: Value, dims: number[], keep = false) => reduced(x, dims, keep, x.dtype, true),
  "aten::amax": (x: Value, dims: number[] = [], keep = false) =>
    make(withoutDims(x.sizes, dims, keep), x.dtype, x.device),
  "aten::amin": (x: Value, dims: number[] = [], keep = false) =>
    make(withoutDims(x.sizes, dims, keep), x.dtype, x.device),
  "aten::aminmax": (x: Value) => [make([], x.dtype, x.device), make([], x.dtype, x.device)],
  "aten::linalg_vector_norm": (x: Value, _order: number, dims: number[] | null = null) =>
    dims === null ? scalarOf(x) : make(withoutDims(x.sizes, dims, false), x.dtype, x.device),
  "aten::logsumexp": logsumexp,
  "aten::softmax.int": softmax,
  "aten::topk": (x: Value, k: number) => pair(x, [...x.sizes.slice(0, -1), k]),
  "aten::sort.stable": (x: Value) => pair(x, x.sizes),
  "aten::bincount": bincount,
  "aten::gt.Tensor": (a: Value, b: Value) => elementwise([a, b], "bool"),
  "aten::lt.Scalar": (x: Value) => elementwise([x], "bool"),
  "aten::equal": () => true,
  "aten::item": () => 1,

  "aten::embedding": (weight: Value, index: Value) => rowsOf(weight, index),
  "aten::index_select": (x: Value, dim: number, index: Value) =>
    dim === 0
      ? rowsOf(x, index)
      : make(
          x.sizes.map((size, i) => (i === dim ? index.count : size)),
          x.dtype,
          x.device,
        ),
  "aten::index_add_": (x: Value) => changed(x),
  "aten::index_copy_": (x: Value) => changed(x),
  "aten::gather": gather,
  "aten::scatter_add_": (x: Value) => changed(x),
  "aten::tril": plain,
  "aten::triu": plain,

  "aten::view": view,
  "aten::reshape": reshape,
  "aten::view.dtype": (x: Value, dtype: DType) => viewAs(x, dtype),
  "aten::to.dtype": cast,
  "aten::to.device": (x: Value, device: string, dtype: DType) =>
    x.device === device && x.dtype === dtype ? hold(x) : make(x.sizes, dtype, device),
  "aten::contiguous": copied,
  "aten::clone": (x: Value) => castTo(x, x.dtype, true),
  "aten::copy_": (x: Value) => changed(x),
  "aten::fill_.Scalar": (x: Value) => changed(x),
  "aten::cat": cat,
  "aten::narrow": narrow,
  "aten::select.int": select,
  "aten::unbind.int": unbind,
  "aten::transpose.int": transpose,
  "aten::expand": expand,
  "aten::unsqueeze": unsqueeze,
  "aten::detach": (x: Value) => viewOf(x, x.sizes, x.strides),

  "aten::normal_": changed,
  "aten::uniform_": changed,
  "aten::random_.from": changed,
  "aten::empty.memory_format": fresh,
  "aten::zeros": fresh,
  "aten::full": (sizes: number[], _value: number, dtype: DType, _layout: null, device: string) =>
    make(sizes, dtype, device),
  "aten::scaled_dot_product_attention": attention,

  "aten::addmm.dtype_out": (...args: Argument[]) => hold(args[6] as Value),
  "aten::_fused_adamw_": () => true,

  "revmoe::round_stochastically_": (into: Value) => changed(into),
  "revmoe::square_sum": () => 1,
  "revmoe::adamw_": (w: Value) => changed(w),
  "revmoe::factored_squares_": (rowMeans: Value) => changed(rowMeans),
  "revmoe::scale_matrix_": () => 1,
  "revmoe::decode_blocks_": (into: Value) => changed(into),
  "revmoe::encode_blocks_": (q: Value) => changed(q),
} as const satisfies Record<string, Operator>;

export function operatorOf(name: string): ((...args: Argument[]) => Result) | undefined {
  return Object.hasOwn(OPERATORS, name)
    ? (OPERATORS[name as keyof typeof OPERATORS] as unknown as (...args: Argument[]) => Result)
    : undefined;
}
