// A stream format by libtorch's operators, each a pass over memory, built from the few functions in which formats
// differ.
import { add, add_, addScalar, aminmax, cast, mul_, mulScalar, sub_ } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { dtype, item, type Tensor } from "../../torch/tensor.js";
import { type Factor, NO_WATCH, type StreamFormat } from "./format.js";

/** The functions in which formats differ. */
export interface Arithmetic {
  /** factor * y as a stream; if `factors_T1` [T, 1] is given, these factors replace `factor`. */
  fromFloat(y: Tensor, factor: number, factors_T1?: Tensor): Tensor;
  toFloat(stream: Tensor): Tensor;
  /** sum + factor * stream, the product rounded down to the grid, in place of `sum`. */
  addScaled_(sum: Tensor, stream: Tensor, factor: Factor): Tensor;
  /** The low bits that `addScaled_` drops, packed; null when it drops none. */
  droppedBits(stream: Tensor, factor: Factor): Tensor | null;
  /**
   * Undoes `addScaled_` on zeros: from `scaled` and the dropped bits back to the stream; on a grid, in place of
   * `scaled`.
   */
  unscale_(scaled: Tensor, bits: Tensor | null, factor: Factor): Tensor;
  check(stream: Tensor, where: string): void;
}

export type Facts = Pick<StreamFormat, "name" | "exact" | "floatDtype">;

export function byOperators(facts: Facts, arithmetic: Arithmetic): StreamFormat {
  const { fromFloat, toFloat, addScaled_, droppedBits, unscale_, check } = arithmetic;
  return {
    ...facts,
    toFloat,
    fromFloat: (y, factor = 1) => fromFloat(y, factor),
    plus: (stream, y, factor = 1) => add_(fromFloat(y, factor), stream),
    plus_: (stream, y, factor = 1) => scope(() => add_(stream, fromFloat(y, factor))),
    momentum: ([p, v], y, factor, { wantBits }) => {
      const bits = wantBits && factor.gamma !== 0 ? droppedBits(v, factor) : null;
      const vNext = fromFloat(y, ...restOf(factor));
      if (factor.gamma !== 0) addScaled_(vNext, v, factor);
      return { streams: [add(p, vNext), vNext], bits };
    },
    momentumStart_: (p, v) => toFloat(sub_(p, v)),
    momentumBack_: (v, y, bits, factor) => {
      const left = scope(() => sub_(v, fromFloat(y, ...restOf(factor))));
      return factor.gamma === 0 ? left : unscale_(left, bits, factor);
    },
    checked: (where, make) => {
      const made = make();
      for (const stream of made.streams) check(stream, where);
      return made;
    },
    watch: () => NO_WATCH,
  };
}

/** 1 - factor, as the arguments of `fromFloat`. */
const restOf = ({ gamma, signs_T1 }: Factor): [number, Tensor?] =>
  signs_T1 === undefined ? [1 - gamma] : [1, addScalar(mulScalar(signs_T1, -gamma), 1)];

export const flip_ = (stream: Tensor, { signs_T1 }: Factor): Tensor =>
  signs_T1 === undefined ? stream : mul_(stream, cast(signs_T1, dtype(stream)));

/** Largest absolute value; NaN if an element is. */
export const largestOf = (t: Tensor): number =>
  scope(() => {
    const [least, most] = aminmax(t).map(item);
    return Math.max(-least, most);
  });
