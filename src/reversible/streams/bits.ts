// The low bits of whole numbers that a factor of +-2^-m drops: how many there are, and how they are packed into bytes.
import { assert } from "../../errors.js";
import { bitAnd_, bitOr_, cast, narrow, reshape, shiftLeft_, shiftRight, view } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, type DType, numel, type Tensor, zeros } from "../../torch/tensor.js";

/** Bits of an element that scaling by the smallest gamma drops. */
export const MOST_BITS = 8;

/** m for gamma = +-2^-m: the low bits that scaling by gamma drops from each element. */
export function storedBits(gamma: number): number {
  const bits = Math.log2(1 / Math.abs(gamma));
  assert(
    Number.isInteger(bits) && bits >= 0 && bits <= MOST_BITS,
    `gamma ${gamma} is not a power of two between 1/256 and 1`,
  );
  return bits;
}

/** Bits that are kept per element. A byte holds whole elements, so m = 3 takes 4 bits, and m above 4 takes 8. */
export const keptBits = (gamma: number): number => slotBits(storedBits(gamma));

// m bits per element, 8/m elements to a byte. Byte i holds elements i, i+n, i+2n, ...: whole
// ranges are shifted and joined, which needs no strided access.
const slotBits = (bits: number): number => (bits > 4 ? 8 : bits === 3 ? 4 : bits);

/** Bytes of `count` elements with `slot` bits each. */
export function packedBytes(count: number, slot: number): number {
  assert((count * slot) % 8 === 0, `${count} elements do not fill bytes of ${8 / slot}`);
  return (count * slot) / 8;
}

export function packBits(stream: Tensor, bits: number): Tensor {
  const slot = slotBits(bits);
  const bytes = packedBytes(numel(stream), slot);
  return scope(() => {
    // The cast keeps the low byte.
    const rows = view(bitAnd_(cast(stream, "uint8", false, true), 2 ** bits - 1), [8 / slot, bytes]);
    const packed = reshape(narrow(rows, 0, 0, 1), [-1]);
    for (let i = 1; i < 8 / slot; i++) bitOr_(packed, shiftLeft_(reshape(narrow(rows, 0, i, 1), [-1]), i * slot));
    // `packed` is a view of the first rows; a copy lets the rest be freed.
    return cast(packed, "uint8", false, true);
  });
}

/** `into` or (bitwise) the unpacked bits; overwrites `into`. */
export function unpackInto_(into: Tensor, packed: Tensor, bits: number): Tensor {
  const slot = slotBits(bits);
  const rows = view(into, [8 / slot, numel(packed)]);
  for (let i = 0; i < 8 / slot; i++) {
    scope(() => bitOr_(reshape(narrow(rows, 0, i, 1), [-1]), bitAnd_(shiftRight(packed, i * slot), 2 ** bits - 1)));
  }
  return into;
}

export const unpackBits = (packed: Tensor, bits: number, size: number[], type: DType): Tensor =>
  unpackInto_(zeros(size, type, device(packed)), packed, bits);
