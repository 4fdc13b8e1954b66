// Whole numbers: rounding, bounds, bits, shifts (arithmetic on signed types).
import { elementwise } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { drop, make } from "../shadow/values.js";
import { type N, op, type T } from "./row.js";
import { changed, plain, plainPair } from "./rules.js";

export const round_ = op<(a: T) => T>("aten::round_(Tensor(a!) self) -> Tensor(a!)", changed);
export const clamp = op<(a: T, min: N | null, max?: N | null) => T>(
  "aten::clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor",
  (x) =>
    record(elementwise([x]), [x], [x], (dy) => {
      const masks = [0, 1, 2].map(() => make(x.sizes, "bool", x.device));
      const dx = elementwise([dy]);
      for (const mask of masks) drop(mask);
      return [dx];
    }),
);
export const clamp_ = op<(a: T, min: N | null, max: N | null) => T>(
  "aten::clamp_(Tensor(a!) self, Scalar? min=None, Scalar? max=None) -> Tensor(a!)",
  changed,
);
export const bitAnd = op<(a: T, b: N) => T>("aten::bitwise_and.Scalar(Tensor self, Scalar other) -> Tensor", plain);
export const bitAnd_ = op<(a: T, b: N) => T>(
  "aten::bitwise_and_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)",
  changed,
);
export const bitOr_ = op<(a: T, b: T) => T>(
  "aten::bitwise_or_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)",
  changed,
);
export const bitXor_ = op<(a: T, b: T) => T>(
  "aten::bitwise_xor_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)",
  changed,
);
export const bitXor = op<(a: T, b: N) => T>("aten::bitwise_xor.Scalar(Tensor self, Scalar other) -> Tensor", plain);
export const shiftLeft = op<(a: T, bits: N) => T>(
  "aten::__lshift__.Scalar(Tensor self, Scalar other) -> Tensor",
  plain,
);
export const shiftLeft_ = op<(a: T, bits: N) => T>(
  "aten::__ilshift__.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)",
  changed,
);
export const shiftRight = op<(a: T, bits: N) => T>(
  "aten::__rshift__.Scalar(Tensor self, Scalar other) -> Tensor",
  plain,
);
export const floorDivide = op<(a: T, b: T) => T>("aten::floor_divide(Tensor self, Tensor other) -> Tensor", plainPair);
