// Tables that turn bytes into numbers, and the scales that several formats share.
import { cast, indexSelect, reshape } from "../../torch/ops.js";
import { fromArray, type Tensor, shape } from "../../torch/tensor.js";

/** The number of each byte, in float32. */
export const lookUp = (bytes: Tensor, table: number[]): Tensor =>
  reshape(indexSelect(fromArray(table, [256], "float32"), 0, cast(reshape(bytes, [-1]), "int32")), shape(bytes));

/** float8_e8m0fnu: powers of two, 2^0 at byte 127. */
export const EXPONENTS = Array.from({ length: 256 }, (_, byte) => (byte === 255 ? Number.NaN : 2 ** (byte - 127)));
