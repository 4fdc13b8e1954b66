// The residual streams of a reversible network and their arithmetic. On an integer grid (int32 with 16 fractional bits,
// or int64 with 32) a branch output is rounded once and added as a whole number, so subtracting it again restores every
// bit. Float streams are the plain alternative, with an error that grows with depth.
import { assert, BadValuesError } from "../errors.js";
import {
  add_,
  aminmax,
  bitAnd_,
  bitOr_,
  cast,
  mul,
  mul_,
  mulScalar,
  mulScalar_,
  narrow,
  neg_,
  reshape,
  round_,
  shiftLeft_,
  shiftRight,
  sub_,
  view,
} from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { device, dtype, item, numel, type DType, type Tensor, zeros } from "../torch/tensor.js";

export interface StreamFormat {
  readonly name: string;
  /** Whether reversal is bit-exact. */
  readonly exact: boolean;
  /** The float dtype in which branches see the stream. */
  readonly floatDtype: DType;
  /** A branch output times `factor` as an increment of the stream, a tensor of its own. */
  fromFloat(y: Tensor, factor?: number): Tensor;
  toFloat(stream: Tensor): Tensor;
  /** sum + gamma * stream, the product rounded down to the grid, then times `signs` (+-1 per token, [T, 1]) where given; in place of `sum`. */
  addScaled_(sum: Tensor, stream: Tensor, gamma: number, signs?: Tensor): Tensor;
  /** The low bits that `addScaled_` drops, packed; null when it drops none. */
  droppedBits(stream: Tensor, gamma: number): Tensor | null;
  /** The stream of which `addScaled_` makes `scaled` out of zeros, given the dropped bits; in place of `scaled`, where it is a grid. */
  unscale_(scaled: Tensor, bits: Tensor | null, gamma: number, signs?: Tensor): Tensor;
  /** Throws when a stream is near the end of its range: an overflow would be silent. */
  check(stream: Tensor, where: string): void;
}

/** Streams in a float dtype: nothing to round, nothing to store. */
export function floatStreams(type: "float32" | "float64"): StreamFormat {
  return {
    name: type,
    exact: false,
    floatDtype: type,
    fromFloat: (y, factor = 1) => (factor === 1 ? cast(y, type, false, true) : mulScalar(cast(y, type), factor)),
    toFloat: (stream) => stream,
    addScaled_: (sum, stream, gamma, signs) =>
      add_(sum, signs === undefined ? stream : mul(stream, cast(signs, type)), gamma),
    droppedBits: () => null,
    unscale_: (scaled, _bits, gamma, signs) => mulScalar_(flip_(scaled, signs), 1 / gamma),
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
    // One product: times a power of two no bit is lost, and every temporary is gone before the next is made.
    fromFloat: (y, factor = 1) =>
      scope(() => {
        const rounded = scope(() => round_(mulScalar(cast(y, wide), factor * unit)));
        const largest = largestOf(rounded) / unit;
        if (!(largest < limit))
          throw Number.isFinite(largest) ? outOfRange(largest, limit) : notFinite("a branch of the network");
        return cast(rounded, type);
      }),
    toFloat: (stream) => scope(() => cast(mulScalar_(cast(stream, wide), 1 / unit), "float32")),
    addScaled_: (sum, stream, gamma, signs) =>
      scope(() => {
        const bits = storedBits(gamma);
        const shifted = bits === 0 ? stream : shiftRight(stream, bits);
        const own = signs === undefined ? shifted : mul(shifted, cast(signs, type));
        return gamma < 0 ? sub_(sum, own) : add_(sum, own);
      }),
    droppedBits: (stream, gamma) => (storedBits(gamma) === 0 ? null : packBits(stream, storedBits(gamma))),
    unscale_: (scaled, packed, gamma, signs) => {
      flip_(scaled, signs);
      if (gamma < 0) neg_(scaled);
      const bits = storedBits(gamma);
      if (bits === 0) return scaled;
      assert(packed !== null, "the dropped bits of a stream are missing");
      return unpackInto_(shiftLeft_(scaled, bits), packed, bits);
    },
    check: (stream, where) => {
      const largest = largestOf(stream) / unit;
      if (!(largest < limit)) throw outOfRange(largest, limit, where);
    },
  };
}

const flip_ = (stream: Tensor, signs?: Tensor): Tensor =>
  signs === undefined ? stream : mul_(stream, cast(signs, dtype(stream)));

/**
 * The most fractional bits, `usual` at most, with which an int32 grid holds values of four times `largest`: pretrained
 * networks have a few elements that are thousands of times the others, and they grow while training.
 */
export const fittingFractionBits = (largest: number, usual: number): number =>
  Math.max(0, Math.min(usual, Math.floor(30 - Math.log2(4 * largest))));

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

/** Bits that are kept per element: m of 3 takes a nibble and m above 4 a byte, since a byte holds whole elements. */
export const keptBits = (gamma: number): number => slotBits(storedBits(gamma));

// m bits per element, 8/m elements to a byte. Byte i holds elements i, i+n, i+2n, ...: whole
// ranges are shifted and joined, which needs no strided access.
const slotBits = (bits: number): number => (bits > 4 ? 8 : bits === 3 ? 4 : bits);

export function packBits(stream: Tensor, bits: number): Tensor {
  const slot = slotBits(bits);
  const perByte = 8 / slot;
  const count = numel(stream);
  assert(count % perByte === 0, `${count} elements do not fill bytes of ${perByte}`);
  return scope(() => {
    // The cast keeps the low byte.
    const rows = view(bitAnd_(cast(stream, "uint8", false, true), 2 ** bits - 1), [perByte, count / perByte]);
    const packed = reshape(narrow(rows, 0, 0, 1), [-1]);
    for (let i = 1; i < perByte; i++) bitOr_(packed, shiftLeft_(reshape(narrow(rows, 0, i, 1), [-1]), i * slot));
    // `packed` is a view of the first rows; the copy lets the rest go.
    return cast(packed, "uint8", false, true);
  });
}

/** `into` or the unpacked bits, in place. */
function unpackInto_(into: Tensor, packed: Tensor, bits: number): Tensor {
  const slot = slotBits(bits);
  const perByte = 8 / slot;
  const rows = view(into, [perByte, numel(into) / perByte]);
  for (let i = 0; i < perByte; i++) {
    scope(() => bitOr_(reshape(narrow(rows, 0, i, 1), [-1]), bitAnd_(shiftRight(packed, i * slot), 2 ** bits - 1)));
  }
  return into;
}

export const unpackBits = (packed: Tensor, bits: number, size: number[], type: DType): Tensor =>
  unpackInto_(zeros(size, type, device(packed)), packed, bits);

/** Not a number where an element is. */
const largestOf = (t: Tensor): number =>
  scope(() => {
    const [least, most] = aminmax(t).map(item);
    return Math.max(-least, most);
  });

function notFinite(where: string): BadValuesError {
  return new BadValuesError(`${where}: a value is not a finite number.`, "The model's weights may be damaged.");
}

/** The limit of int64 with its usual 32 fractional bits. */
const WIDEST = 2 ** 30;

function outOfRange(largest: number, limit: number, where = "a branch of the network"): BadValuesError {
  const remedy =
    largest < WIDEST
      ? "Use fewer bits (--stream-fraction-bits) or --stream int64."
      : "No grid holds that: the learning rate may be too high, or the weights damaged.";
  return new BadValuesError(
    `${where}: a stream value of ${largest.toPrecision(3)} leaves the grid (limit ${limit}).`,
    remedy,
  );
}
