// Quantised blocks to float32. The arithmetic follows gguf-py's `quants.py`, operation by operation in float32, so bits
// are the same. It decodes one tensor, or one expert of it, at a time; the result belongs to the caller's scope.
import { assert } from "../../errors.js";
import { empty, readBytes, type Tensor, writeBytes } from "../../torch/tensor.js";
import type { BlockType } from "./types.js";

/** Writes the elements of the block at byte `at` of `from` to `out`, from element `to` on. */
type Unpack = (from: Uint8Array, at: number, out: Float32Array, to: number) => void;

const { fround } = Math;

/** The float32 of each float16, by its 16 bits; a table, since not every JavaScript engine has float16. */
const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
});
const half = (from: Uint8Array, at: number): number => HALVES[from[at] | (from[at + 1] << 8)];
const signed = (byte: number): number => (byte << 24) >> 24;

/** Blocks of 32 elements with one scale: elements i and i + 16 share byte i; `fifth` bits follow separately. */
function nibbles({ minimum, fifth }: { minimum: boolean; fifth: boolean }): Unpack {
  const offset = minimum ? 0 : fifth ? 16 : 8;
  return (from, at, out, to) => {
    const scale = half(from, at);
    const least = minimum ? half(from, at + 2) : 0;
    let next = at + (minimum ? 4 : 2);
    const high = fifth ? from[next] | (from[next + 1] << 8) | (from[next + 2] << 16) | (from[next + 3] << 24) : 0;
    if (fifth) next += 4;
    for (let i = 0; i < 16; i++) {
      const byte = from[next + i];
      const low = (byte & 15) | (((high >>> i) & 1) << 4);
      const upper = (byte >> 4) | (((high >>> (i + 16)) & 1) << 4);
      // Without a minimum nothing is added, so that a zero keeps its sign.
      out[to + i] = minimum ? fround(scale * low) + least : scale * (low - offset);
      out[to + i + 16] = minimum ? fround(scale * upper) + least : scale * (upper - offset);
    }
  };
}

/** Blocks of 256 elements in 8 groups of 32, each group with a scale and a minimum of 6 bits, packed into 12 bytes. */
function groups({ fifth }: { fifth: boolean }): Unpack {
  return (from, at, out, to) => {
    const [scale, least] = [half(from, at), half(from, at + 2)];
    const packed = at + 4;
    const high = at + 16;
    const low = fifth ? at + 48 : at + 16;
    for (let group = 0; group < 8; group++) {
      const [a, b, c] = [from[packed + (group % 4)], from[packed + 4 + (group % 4)], from[packed + 8 + (group % 4)]];
      const factor = fround(scale * (group < 4 ? a & 63 : (c & 15) | ((a >> 2) & 48)));
      const base = fround(least * (group < 4 ? b & 63 : (c >> 4) | ((b >> 2) & 48)));
      const shift = group % 2 === 0 ? 0 : 4;
      const bytes = low + 32 * (group >> 1);
      for (let i = 0; i < 32; i++) {
        const top = fifth ? ((from[high + i] >> group) & 1) << 4 : 0;
        out[to + 32 * group + i] = fround(factor * (((from[bytes + i] >> shift) & 15) | top)) - base;
      }
    }
  };
}

const UNPACK: Record<string, Unpack> = {
  Q4_0: nibbles({ minimum: false, fifth: false }),
  Q4_1: nibbles({ minimum: true, fifth: false }),
  Q5_0: nibbles({ minimum: false, fifth: true }),
  Q5_1: nibbles({ minimum: true, fifth: true }),
  Q8_0: (from, at, out, to) => {
    const scale = half(from, at);
    for (let i = 0; i < 32; i++) out[to + i] = signed(from[at + 2 + i]) * scale;
  },
  Q4_K: groups({ fifth: false }),
  Q5_K: groups({ fifth: true }),
  // For each half of 128 elements: 64 bytes of low nibbles, 32 bytes of pairs of high bits; a signed scale per 16
  // elements.
  Q6_K: (from, at, out, to) => {
    const scale = half(from, at + 208);
    for (let i = 0; i < 256; i++) {
      const [part, quarter, column] = [i >> 7, (i >> 5) & 3, i & 31];
      const low = from[at + 64 * part + 32 * (quarter & 1) + column] >> (quarter < 2 ? 0 : 4);
      const high = from[at + 128 + 32 * part + column] >> (2 * quarter);
      const factor = fround(scale * signed(from[at + 192 + (i >> 4)]));
      out[to + i] = factor * (((low & 15) | ((high & 3) << 4)) - 32);
    }
  },
};

/** Number of blocks that are unpacked at once, so that no second copy of a tensor is made. */
const SLAB_BLOCKS = 8192;

/** Bytes `begin` to `end` of a file, which are blocks of a quantised type, as float32 of `shape`. */
export function dequantize(
  file: Tensor,
  { begin, end }: { begin: number; end: number },
  type: BlockType,
  shape: number[],
): Tensor {
  const unpack = UNPACK[type.name];
  assert(unpack !== undefined, `${type.name} is not quantised`);
  const made = empty(shape, "float32");
  const packed = new Uint8Array(Math.min(SLAB_BLOCKS * type.bytes, end - begin));
  const values = new Float32Array((packed.length / type.bytes) * type.elements);
  const unpacked = new Uint8Array(values.buffer);
  for (let at = begin, done = 0; at < end; at += packed.length) {
    const blocks = Math.min(packed.length, end - at) / type.bytes;
    readBytes(file, at, packed.subarray(0, blocks * type.bytes));
    for (let i = 0; i < blocks; i++) unpack(packed, i * type.bytes, values, i * type.elements);
    const filled = unpacked.subarray(0, blocks * type.elements * 4);
    writeBytes(made, done, filled);
    done += filled.length;
  }
  return made;
}
