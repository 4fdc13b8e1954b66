// The type of a tensor for TypeScript: a handle into the native table that is not a plain number. And the types of
// elements, with the bytes of each.
import type { Handle } from "./binding.js";

declare const brand: unique symbol;
export type Tensor = Handle & { readonly [brand]: "tensor" };

export const DTYPES = {
  float32: 4,
  float64: 8,
  bfloat16: 2,
  float16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
} as const;
export type DType = keyof typeof DTYPES;
