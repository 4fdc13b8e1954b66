// The residual streams of a reversible network and their arithmetic. On an integer grid (int32 with 16 fractional bits,
// or int64 with 32) a branch output is rounded once and added as a whole number, so subtracting it again restores every
// bit. Float streams are the plain alternative, with an error that grows with depth.
import { UserError, assert } from "../errors.js";
import {
  abs,
  amax,
  bitAnd,
  bitOr_,
  cast,
  cat,
  mul,
  mulScalar,
  mulScalar_,
  narrow,
  neg,
  reshape,
  round_,
  shiftLeft,
  shiftLeft_,
  shiftRight,
  view,
} from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, item, numel, shape, type DType, type Tensor } from "../torch/tensor.js";

export interface StreamFormat {
  readonly name: string;
  /** Whether reversal is bit-exact. */
  readonly exact: boolean;
  /** The float dtype in which branches see the stream. */
  readonly floatDtype: DType;
  /** A branch output as an increment of the stream. */
  fromFloat(y: Tensor): Tensor;
  toFloat(stream: Tensor): Tensor;
  /** gamma * stream, rounded down to the grid, then times `signs` (+-1 per token, [T, 1]) where given. */
  scale(stream: Tensor, gamma: number, signs?: Tensor): Tensor;
  /** The low bits that `scale` drops, packed; null when it drops none. */
  droppedBits(stream: Tensor, gamma: number): Tensor | null;
  /** The stream whose `scale` this is, given the dropped bits. */
  unscale(scaled: Tensor, bits: Tensor | null, gamma: number, signs?: Tensor): Tensor;
  /** Throws when a stream is near the end of its range: an overflow would be silent. */
  check(stream: Tensor, where: string): void;
}

/** Streams in a float dtype: nothing to round, nothing to store. */
export function floatStreams(type: "float32" | "float64"): StreamFormat {
  return {
    name: type,
    exact: false,
    floatDtype: type,
    fromFloat: (y) => cast(y, type),
    toFloat: (stream) => stream,
    scale: (stream, gamma, signs) => flip(mulScalar(stream, gamma), signs),
    droppedBits: () => null,
    unscale: (scaled, _bits, gamma, signs) => mulScalar(flip(scaled, signs), 1 / gamma),
    check: (stream, where) => {
      if (!Number.isFinite(largestOf(stream))) throw notFinite(where);
    },
  };
}

/** Streams on the grid of 2^-fractionBits. Branches see float32 in either case; int64 is rounded from float64. */
export function gridStreams(type: "int32" | "int64", fractionBits: number): StreamFormat {
  const unit = 2 ** fractionBits;
  // Half the range: the sum of two checked values cannot wrap.
  const limit = (type === "int32" ? 2 ** 30 : 2 ** 62) / unit;
  const wide = type === "int64" ? "float64" : "float32";
  return {
    name: `${type}/${fractionBits}`,
    exact: true,
    floatDtype: "float32",
    fromFloat: (y) => {
      const largest = largestOf(y);
      if (!(largest < limit)) throw Number.isFinite(largest) ? outOfRange(largest, limit) : notFinite("a branch of the network");
      return cast(round_(mulScalar(cast(y, wide), unit)), type);
    },
    toFloat: (stream) => cast(mulScalar_(cast(stream, wide), 1 / unit), "float32"),
    scale: (stream, gamma, signs) => {
      const bits = storedBits(gamma);
      const shifted = bits === 0 ? stream : shiftRight(stream, bits);
      return flip(gamma < 0 ? neg(shifted) : shifted, signs);
    },
    droppedBits: (stream, gamma) => (storedBits(gamma) === 0 ? null : packBits(stream, storedBits(gamma))),
    unscale: (scaled, packed, gamma, signs) => {
      const flipped = flip(scaled, signs);
      const signed = gamma < 0 ? neg(flipped) : flipped;
      const bits = storedBits(gamma);
      if (bits === 0) return signed;
      assert(packed !== null, "the dropped bits of a stream are missing");
      return bitOr_(shiftLeft(signed, bits), unpackBits(packed, bits, shape(scaled), type));
    },
    check: (stream, where) => {
      const largest = largestOf(stream) / unit;
      if (!(largest < limit)) throw outOfRange(largest, limit, where);
    },
  };
}

const flip = (stream: Tensor, signs?: Tensor): Tensor => (signs === undefined ? stream : mul(stream, cast(signs, dtype(stream))));

/**
 * The most fractional bits, `usual` at most, with which an int32 grid holds values of four times `largest`: pretrained
 * networks have a few elements that are thousands of times the others, and they grow while training.
 */
export const fittingFractionBits = (largest: number, usual: number): number =>
  Math.max(0, Math.min(usual, Math.floor(30 - Math.log2(4 * largest))));

/** m for gamma = +-2^-m: the low bits that scaling by gamma drops from each element. */
export function storedBits(gamma: number): number {
  const bits = Math.log2(1 / Math.abs(gamma));
  assert(Number.isInteger(bits) && bits >= 0 && bits <= 4, `gamma ${gamma} is not a power of two between 1/16 and 1`);
  return bits;
}

/** Bits that are kept per element: m of 3 takes a nibble, since a byte holds whole elements. */
export const keptBits = (gamma: number): number => slotBits(storedBits(gamma));

// m bits per element, 8/m elements to a byte. Byte i holds elements i, i+n, i+2n, ...: whole
// ranges are shifted and joined, which needs no strided access.
const slotBits = (bits: number): number => (bits === 3 ? 4 : bits);

export function packBits(stream: Tensor, bits: number): Tensor {
  const slot = slotBits(bits);
  const perByte = 8 / slot;
  const count = numel(stream);
  assert(count % perByte === 0, `${count} elements do not fill bytes of ${perByte}`);
  const rows = view(cast(bitAnd(stream, 2 ** bits - 1), "uint8"), [perByte, count / perByte]);
  const packed = reshape(narrow(rows, 0, 0, 1), [-1]);
  for (let i = 1; i < perByte; i++) bitOr_(packed, shiftLeft_(reshape(narrow(rows, 0, i, 1), [-1]), i * slot));
  // `packed` is a view of the first rows; the copy lets the rest go.
  return cast(packed, "uint8", false, true);
}

export function unpackBits(packed: Tensor, bits: number, size: number[], type: DType): Tensor {
  const slot = slotBits(bits);
  const rows = Array.from({ length: 8 / slot }, (_, i) => bitAnd(shiftRight(packed, i * slot), 2 ** bits - 1));
  return reshape(cast(cat(rows, 0), type), size);
}

const largestOf = (t: Tensor): number => scope(() => item(amax(abs(t))));

function notFinite(where: string): UserError {
  return new UserError(
    `${where}: a value is not a finite number. The learning rate may be too high, or the checkpoint broken. Nothing of this step was saved.`,
  );
}

/** The limit of int64 with its usual 32 fractional bits. */
const WIDEST = 2 ** 30;

function outOfRange(largest: number, limit: number, where = "a branch of the network"): UserError {
  const remedy =
    largest < WIDEST
      ? "Use fewer bits (--stream-fraction-bits) or --stream int64."
      : "No grid holds that: the learning rate may be too high, or the checkpoint broken.";
  return new UserError(`${where}: a stream value of ${largest.toPrecision(3)} leaves the grid (limit ${limit}). ${remedy}`);
}
