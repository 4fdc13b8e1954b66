// Elementwise arithmetic with broadcasting and promotion.
import { elementwise } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { drop, hold, type Value } from "../shadow/values.js";
import { type N, op, type T } from "./row.js";
import { changed, needs, plain, plainPair, unary } from "./rules.js";

const isFloat = ({ dtype }: Value): boolean => dtype.includes("float");
/**
 * The result of `x` and a number: libtorch treats a number as a tensor of one element, and a fraction turns integer
 * tensors into floats.
 */
const withNumber = (x: Value, number: number): Value =>
  elementwise([x], isFloat(x) || Number.isInteger(number) ? x.dtype : "float32");

export const add = op<(a: T, b: T, alpha?: N) => T>(
  "aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
  (a, b) => record(elementwise([a, b]), [a, b], [], (dy, needed) => needed.map((is) => (is ? hold(dy) : null))),
);
export const add_ = op<(a: T, b: T, alpha?: N) => T>(
  "aten::add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)",
  changed,
);
export const addScalar = op<(a: T, b: N) => T>(
  "aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor",
  (x, number) => record(withNumber(x, number), [x], [], (dy) => [hold(dy)]),
);
export const addScalar_ = op<(a: T, b: N) => T>(
  "aten::add_.Scalar(Tensor(a!) self, Scalar other, Scalar alpha=1) -> Tensor(a!)",
  changed,
);
export const sub = op<(a: T, b: T) => T>(
  "aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
  (a, b) =>
    record(elementwise([a, b]), [a, b], [], (dy, [toA, toB]) => [
      toA ? hold(dy) : null,
      toB ? elementwise([dy]) : null,
    ]),
);
export const sub_ = op<(a: T, b: T, alpha?: N) => T>(
  "aten::sub_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)",
  changed,
);
export const mul = op<(a: T, b: T) => T>("aten::mul.Tensor(Tensor self, Tensor other) -> Tensor", (a, b) =>
  record(elementwise([a, b]), [a, b], [needs(b) ? a : null, needs(a) ? b : null], (dy, [toA, toB]) => [
    toA ? elementwise([dy, b]) : null,
    toB ? elementwise([dy, a]) : null,
  ]),
);
export const mul_ = op<(a: T, b: T) => T>("aten::mul_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)", changed);
export const mulScalar = op<(a: T, b: N) => T>("aten::mul.Scalar(Tensor self, Scalar other) -> Tensor", (x, number) =>
  record(withNumber(x, number), [x], [], (dy) => [elementwise([dy])]),
);
export const mulScalar_ = op<(a: T, b: N) => T>(
  "aten::mul_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)",
  changed,
);
export const div = op<(a: T, b: T) => T>("aten::div.Tensor(Tensor self, Tensor other) -> Tensor", (a, b) =>
  record(elementwise([a, b]), [a, b], [needs(b) ? a : null, b], (dy, [toA, toB]) => {
    const da = toA ? elementwise([dy, b]) : null;
    if (!toB) return [da, null];
    const [once, twice, negative] = [elementwise([a, b]), elementwise([a, b]), elementwise([dy])];
    const db = elementwise([negative, twice]);
    for (const value of [once, twice, negative]) drop(value);
    return [da, db];
  }),
);
export const div_ = op<(a: T, b: T) => T>("aten::div_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)", changed);
export const neg = op<(a: T) => T>("aten::neg(Tensor self) -> Tensor", unary("nothing"));
export const neg_ = op<(a: T) => T>("aten::neg_(Tensor(a!) self) -> Tensor(a!)", changed);
export const tanh_ = op<(a: T) => T>("aten::tanh_(Tensor(a!) self) -> Tensor(a!)", changed);
export const sign_ = op<(a: T) => T>("aten::sign_(Tensor(a!) self) -> Tensor(a!)", changed);
export const abs = op<(a: T) => T>("aten::abs(Tensor self) -> Tensor", plain);
export const sqrt = op<(a: T) => T>("aten::sqrt(Tensor self) -> Tensor", plain);
export const rsqrt = op<(a: T) => T>("aten::rsqrt(Tensor self) -> Tensor", (x) => {
  const y = elementwise([x]);
  return record(y, [x], [y], (dy) => {
    const [half, cube] = [elementwise([dy]), elementwise([y])];
    const dx = elementwise([half, cube]);
    drop(half);
    drop(cube);
    return [dx];
  });
});
// The gradient is dy * (2 * x^1); each factor is a tensor.
export const square = op<(a: T) => T>("aten::square(Tensor self) -> Tensor", (x) =>
  record(elementwise([x]), [x], [x], (dy) => {
    const [power, twice] = [elementwise([x]), elementwise([x])];
    const dx = elementwise([dy, twice]);
    drop(power);
    drop(twice);
    return [dx];
  }),
);
export const cos = op<(a: T) => T>("aten::cos(Tensor self) -> Tensor", plain);
export const sin = op<(a: T) => T>("aten::sin(Tensor self) -> Tensor", plain);
export const log = op<(a: T) => T>("aten::log(Tensor self) -> Tensor", plain);
export const reciprocal = op<(a: T) => T>("aten::reciprocal(Tensor self) -> Tensor", plain);
export const exp = op<(a: T) => T>("aten::exp(Tensor self) -> Tensor", unary("result"));
export const exp_ = op<(a: T) => T>("aten::exp_(Tensor(a!) self) -> Tensor(a!)", changed);
export const silu = op<(a: T) => T>("aten::silu(Tensor self) -> Tensor", unary("input"));
export const softplus = op<(a: T) => T>(
  "aten::softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor",
  unary("input"),
);
export const sigmoid = op<(a: T) => T>("aten::sigmoid(Tensor self) -> Tensor", unary("result"));
/** Used for running maxima, which have no gradient. */
export const maximum = op<(a: T, b: T) => T>("aten::maximum(Tensor self, Tensor other) -> Tensor", plainPair);
/** log(exp(a) + exp(b)) */
export const logAddExp = op<(a: T, b: T) => T>("aten::logaddexp(Tensor self, Tensor other) -> Tensor", plainPair);
export const lerp_ = op<(self: T, end: T, weight: N) => T>(
  "aten::lerp_.Scalar(Tensor(a!) self, Tensor end, Scalar weight) -> Tensor(a!)",
  changed,
);
export const addcmul_ = op<(self: T, a: T, b: T, value?: N) => T>(
  "aten::addcmul_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)",
  changed,
);
export const addcdiv_ = op<(self: T, a: T, b: T, value?: N) => T>(
  "aten::addcdiv_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)",
  changed,
);
