// Streams on a grid by libtorch's operators: for devices without kernels, and as the reference that kernels are tested
// by.
import { assert } from "../../errors.js";
import { add_, cast, mul, mulScalar, mulScalar_, neg_, round_, shiftLeft_, shiftRight, sub_ } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { packBits, storedBits, unpackInto_ } from "./bits.js";
import type { StreamFormat } from "./format.js";
import { byOperators, type Facts, flip_, largestOf } from "./operators.js";
import type { Range } from "./range.js";

/** The format on the grid of `range`, in whole numbers. */
export function gridReference(facts: Facts, type: "int32" | "int64", range: Range): StreamFormat {
  const { unit } = range;
  const wide = type === "int64" ? "float64" : "float32";
  return byOperators(facts, {
    // One product, as a factor of a power of two loses no bit; each temporary is freed before the next is made.
    fromFloat: (y, factor, factors_T1) =>
      scope(() => {
        const rounded = scope(() => {
          if (factors_T1 === undefined) return round_(mulScalar(cast(y, wide), factor * unit));
          return round_(mul(cast(y, wide), mulScalar(cast(factors_T1, wide), unit)));
        });
        range.check(largestOf(rounded), 0, "");
        return cast(rounded, type);
      }),
    toFloat: (stream) => scope(() => cast(mulScalar_(cast(stream, wide), 1 / unit), "float32")),
    addScaled_: (sum, stream, { gamma, signs_T1 }) =>
      scope(() => {
        const bits = storedBits(gamma);
        const shifted = bits === 0 ? stream : shiftRight(stream, bits);
        const own = signs_T1 === undefined ? shifted : mul(shifted, cast(signs_T1, type));
        return gamma < 0 ? sub_(sum, own) : add_(sum, own);
      }),
    droppedBits: (stream, { gamma }) => (storedBits(gamma) === 0 ? null : packBits(stream, storedBits(gamma))),
    unscale_: (scaled, packed, factor) => {
      flip_(scaled, factor);
      if (factor.gamma < 0) neg_(scaled);
      const bits = storedBits(factor.gamma);
      if (bits === 0) return scaled;
      assert(packed !== null, "the dropped bits of a stream are missing");
      return unpackInto_(shiftLeft_(scaled, bits), packed, bits);
    },
    check: (stream, where) => range.check(0, largestOf(stream), where),
  });
}
