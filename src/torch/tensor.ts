// Tensors as integer handles into the native table: making them, asking them, moving their bytes. A handle made inside
// `scope` belongs to the scope; one made outside belongs to the caller, who frees it. Using a stale handle is always an
// error.
//
// Shape letters, one legend for the whole project (x_TD is [T, D]; a gradient is d + the name; `fn_` works in place):
//   T tokens in the packed batch   D model width        H query heads      K key/value heads   C head width
//   E experts                      A experts per token  R routed rows T*A  F expert inner width
//   V vocabulary                   L layers             S tokens of one document   N any count, said where used
import { assert, UserError } from "../errors.js";
import { fileCutShort, native } from "./binding.js";
import { newEmpty, newFull, newZeros, readItem, toDevice } from "./ops/storage.js";
import { contiguous } from "./ops/views.js";
import { DTYPES, type DType, type Tensor } from "./types.js";
import { isCpu } from "./device-name.js";

export { DTYPES, type DType, type Tensor };

/** Some rows of a tensor's first dimension, one after the other. */
export interface Rows {
  first: number;
  count: number;
}

export const shape = (t: Tensor): number[] => native.sizes(t);
export const dtype = (t: Tensor): DType => native.dtype(t) as DType;
export const device = (t: Tensor): string => native.device(t);
export const byteSize = (t: Tensor): number => native.byteSize(t);
export const numel = (t: Tensor): number => shape(t).reduce((product, size) => product * size, 1);

export const empty = (size: number[], type: DType, on = "cpu"): Tensor => newEmpty(size, type, null, on);
/** On the CPU, in pages that a GPU can copy from without the CPU; needs CUDA. */
export const emptyPinned = (size: number[], type: DType): Tensor => newEmpty(size, type, null, "cpu", true);
export const zeros = (size: number[], type: DType, on = "cpu"): Tensor => newZeros(size, type, null, on);
export const full = (size: number[], value: number, type: DType, on = "cpu"): Tensor =>
  newFull(size, value, type, null, on);

/** The tensor on the device `on` with elements of `type`; if nothing changes, the same storage. */
export const to = (t: Tensor, type: DType, on = "cpu"): Tensor => toDevice(t, on, type);

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

/** A tensor with the given elements in row-major order. */
export const fromArray = (values: ArrayLike<number>, size: number[], type: DType, on = "cpu"): Tensor =>
  fromValues(() => values, size, type, on);

/** The same; an engine without elements does not ask for the values. */
export function fromValues(valuesOf: () => ArrayLike<number>, size: number[], type: DType, on = "cpu"): Tensor {
  const staged = type === "bfloat16" || type === "float16" ? "float32" : type;
  const made = empty(size, staged);
  if (native.hasElements()) native.writeBytes(made, 0, bytesOf(valuesOf(), size, staged));
  if (staged === type && isCpu(on)) return made;
  const moved = to(made, type, on);
  native.free(made);
  return moved;
}

function bytesOf(values: ArrayLike<number>, size: number[], type: keyof typeof ARRAYS): Uint8Array {
  const array = type === "int64" ? BigInt64Array.from(values, (value) => BigInt(value)) : new ARRAYS[type](values);
  assert(
    array.length === size.reduce((product, each) => product * each, 1),
    `${array.length} values do not fill [${size}]`,
  );
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** The elements in row-major order as JavaScript numbers, whatever the dtype and device. */
export function toArray(t: Tensor): number[] {
  const type = dtype(t);
  const staged = type === "bfloat16" || type === "float16" ? "float32" : type;
  native.scopeOpen();
  try {
    const plain = contiguous(to(t, staged));
    const bytes = new Uint8Array(byteSize(plain));
    native.readBytes(plain, 0, bytes);
    return Array.from(new ARRAYS[staged](bytes.buffer) as ArrayLike<number | bigint>, Number);
  } finally {
    native.scopeClose([]);
  }
}

/** The same; null from an engine without elements. */
export const valuesIfAny = (t: Tensor): number[] | null => (native.hasElements() ? toArray(t) : null);

/** The one element of a tensor. */
export const item = (t: Tensor): number => Number(readItem(t));

/**
 * A whole file as uint8[n], mapped privately: pages are read when touched, writes never reach the file. Errors:
 * UserError if it has fewer than `bytes` bytes, or cannot be mapped; reading it later throws one if it was cut short.
 */
export function mapFile(path: string, bytes = 1): Tensor {
  let mapping: Tensor;
  try {
    mapping = native.mapFile(path) as Tensor;
  } catch (failure) {
    throw new UserError(`${(failure as Error).message}. Check the file and try again.`);
  }
  if (byteSize(mapping) >= bytes) return mapping;
  native.free(mapping);
  throw fileCutShort(path);
}

/** Raw bytes of a contiguous CPU tensor, from `byteOffset`, into a buffer. */
export const readBytes = (t: Tensor, byteOffset: number, into: Uint8Array): void =>
  native.readBytes(t, byteOffset, into);

/** Raw bytes from a buffer into a contiguous CPU tensor at `byteOffset`. */
export const writeBytes = (t: Tensor, byteOffset: number, from: Uint8Array): void =>
  native.writeBytes(t, byteOffset, from);
