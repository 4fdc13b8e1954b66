// Streams on a grid of whole numbers. Kernels (native/kernels/streams.h, momentum.h) take one pass over memory for each
// operation; on a device without them libtorch's operators do the work. Both give the same bits.
import { hasKernels } from "../../torch/kernels/kernels.js";
import { contiguous, momentum_, momentumBack_, streamAdd_, streamFloat_ } from "../../torch/ops.js";
import { device, empty, numel, shape, type Tensor } from "../../torch/tensor.js";
import { keptBits, packedBytes, storedBits } from "./bits.js";
import { type Factor, NO_WATCH, type StreamFormat } from "./format.js";
import { gridReference } from "./grid-reference.js";
import type { Facts } from "./operators.js";
import { Range } from "./range.js";

/**
 * Streams on the grid of 2^-fractionBits. Branches see float32 with both types; an int64 value is rounded to it from
 * float64.
 */
export function gridStreams(type: "int32" | "int64", fractionBits: number): StreamFormat {
  const unit = 2 ** fractionBits;
  // Half of the type's range, so that the sum of two checked values cannot wrap.
  const range = new Range(unit, (type === "int32" ? 2 ** 30 : 2 ** 62) / unit);
  const facts: Facts = { name: `${type}/${fractionBits}`, exact: true, floatDtype: "float32" };
  const reference = gridReference(facts, type, range);
  const kernels = byKernels(facts, type, range);
  const on = (t: Tensor): StreamFormat => (hasKernels(device(t)) ? kernels : reference);
  return {
    ...facts,
    fromFloat: (y, factor) => on(y).fromFloat(y, factor),
    toFloat: (stream) => on(stream).toFloat(stream),
    plus: (stream, y, factor) => on(y).plus(stream, y, factor),
    plus_: (stream, y, factor) => on(y).plus_(stream, y, factor),
    momentum: (streams, y, factor, wanted) => on(y).momentum(streams, y, factor, wanted),
    momentumStart_: (p, v) => on(p).momentumStart_(p, v),
    momentumBack_: (v, y, bits, factor) => on(y).momentumBack_(v, y, bits, factor),
    checked: (where, make) => {
      const made = kernels.checked(where, make);
      return on(made.streams[0]).checked(where, () => made);
    },
    watch: (where) => (hasKernels(where) ? range.watch(where) : NO_WATCH),
  };
}

function byKernels(facts: Facts, type: "int32" | "int64", range: Range): StreamFormat {
  const { unit } = range;
  const like = (t: Tensor): Tensor => empty(shape(t), type, device(t));
  const addTo = (out: Tensor, stream: Tensor | null, y: Tensor, factor = 1): Tensor => {
    range.noted(device(y), (flags) => streamAdd_(out, stream, contiguous(y), factor * unit, flags));
    return out;
  };
  const toFloat = (stream: Tensor, less: Tensor | null): Tensor => {
    const x = empty(shape(stream), "float32", device(stream));
    streamFloat_(x, stream, less, 1 / unit);
    return x;
  };
  return {
    ...facts,
    fromFloat: (y, factor) => addTo(like(y), null, y, factor),
    toFloat: (stream) => toFloat(stream, null),
    plus: (stream, y, factor) => addTo(like(stream), stream, y, factor),
    plus_: (stream, y, factor) => addTo(stream, stream, y, factor),
    momentum: ([p, v], y, factor, { wantBits, overwrite }) => {
      const slot = slotOf(factor);
      const bits = wantBits && slot > 0 ? empty([packedBytes(numel(v), slot)], "uint8", device(v)) : null;
      const [pNext, vNext] = overwrite ? [p, v] : [like(p), like(v)];
      range.noted(device(v), (flags) => momentum_(pNext, vNext, bits, p, v, contiguous(y), ...by(factor), flags));
      return { streams: [pNext, vNext], bits };
    },
    momentumStart_: toFloat,
    momentumBack_: (v, y, bits, factor) => {
      range.noted(device(v), (flags) => momentumBack_(v, bits, contiguous(y), ...by(factor), flags));
      return v;
    },
    checked: (where, make) => range.during(where, make),
    watch: range.watch,
  };

  function by(factor: Factor) {
    const { gamma, signs_T1 = null } = factor;
    return [signs_T1, unit, gamma, gamma === 0 ? 0 : storedBits(gamma), slotOf(factor)] as const;
  }
}

const slotOf = ({ gamma }: Factor): number => (gamma === 0 ? 0 : keptBits(gamma));

/**
 * Fractional bits of an int32 grid: as many as possible, at most `usual`, if it must hold four times `largest`.
 * Pretrained networks have a few elements that are thousands of times the others, and these grow in training.
 */
export const fittingFractionBits = (largest: number, usual: number): number =>
  Math.max(0, Math.min(usual, Math.floor(30 - Math.log2(4 * largest))));
