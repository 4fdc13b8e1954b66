// Wrong bytes: bits flipped, ranges cut, doubled and overwritten, and numbers of 4 or 8 bytes set to extremes, since
// they may be a length or a count in a binary header.
import type { Random } from "./random.js";

const EXTREMES = [
  0n,
  1n,
  7n,
  255n,
  65_536n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
];

/** `within`: number of bytes from the beginning that are worth changing. */
export function mutateBytes(seed: Uint8Array, random: Random, within = seed.length): Uint8Array {
  let bytes: Buffer = Buffer.from(seed);
  for (let left = random.few(); left > 0; left--) bytes = change(bytes, random, Math.min(within, bytes.length));
  return bytes;
}

function change(bytes: Buffer, random: Random, within: number): Buffer {
  const at = random.below(within);
  const end = Math.min(bytes.length, at + 1 + random.below(random.pick([4, 64, within])));
  switch (random.below(8)) {
    case 0:
      if (bytes.length > 0) bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 1:
      if (bytes.length > 0) bytes[at] = random.pick([0, 1, 10, 34, 92, 127, 128, 192, 237, 255, random.below(256)]);
      return bytes;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 5:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(Array.from({ length: 1 + random.below(12) }, () => random.below(256))),
        bytes.subarray(at),
      ]);
    default:
      return setNumber(bytes, random, at);
  }
}

/** Overwrites 4 or 8 bytes with an extreme number, little-endian. */
function setNumber(bytes: Buffer, random: Random, at: number): Buffer {
  const wide = random.oneIn(2);
  if (at + 8 > bytes.length) return bytes;
  const value = random.pick(EXTREMES);
  if (wide) bytes.writeBigUInt64LE(value, at);
  else bytes.writeUInt32LE(Number(value & 0xffff_ffffn), at);
  return bytes;
}
