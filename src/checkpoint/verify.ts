// Compares saved weights with those in memory, bit for bit, tensor by tensor. Bits, not values: a NaN equals itself
// here, and zero differs from negative zero.
import { UserError } from "../errors.js";
import { contiguous, equal, reshape, viewDtype } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type DType, DTYPES, dtype, numel, shape, type Tensor, to } from "../torch/tensor.js";
import { openFolder } from "./folder.js";
import type { TensorSource } from "./safetensors/writer.js";

const INTEGERS: Record<number, DType> = { 1: "int8", 2: "int16", 4: "int32", 8: "int64" };

/**
 * Errors: UserError that names the first tensor of `folder` that does not equal one of `tensors` in name, dtype, shape
 * and bits.
 */
export function compareFolder(folder: string, tensors: TensorSource[]): void {
  const opened = openFolder(folder);
  try {
    const differing = tensors.find(
      ({ name, read }) => !opened.tensors.has(name) || scope(() => !sameBits(read(), opened.read(name))),
    )?.name;
    const names = new Set(tensors.map(({ name }) => name));
    const wrong = differing ?? [...opened.tensors.keys()].find((name) => !names.has(name));
    if (wrong !== undefined) {
      throw new UserError(
        `${folder}: ${wrong} reads back differently from what was saved. Check the disk and save again.`,
      );
    }
  } finally {
    opened.close();
  }
}

/** Whether two tensors, on any devices, have the same dtype, shape and bits. */
export function sameBits(a: Tensor, b: Tensor): boolean {
  const type = dtype(a);
  if (type !== dtype(b) || shape(a).join() !== shape(b).join()) return false;
  if (numel(a) === 0) return true;
  return scope(() => {
    const bits = (t: Tensor): Tensor =>
      viewDtype(reshape(contiguous(to(t, type, "cpu")), [-1]), INTEGERS[DTYPES[type]]);
    return equal(bits(a), bits(b));
  });
}
