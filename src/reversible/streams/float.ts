// Streams in a float dtype: nothing is rounded or stored, and a kernel would not save a pass.
import { add_, cast, mul, mulScalar, mulScalar_ } from "../../torch/ops.js";
import type { StreamFormat } from "./format.js";
import { byOperators, flip_, largestOf } from "./operators.js";
import { notFinite } from "./range.js";

export const floatStreams = (type: "float32" | "float64"): StreamFormat =>
  byOperators(
    { name: type, exact: false, floatDtype: type },
    {
      fromFloat: (y, factor, factors_T1) => {
        if (factors_T1 !== undefined) return mul(cast(y, type), cast(factors_T1, type));
        return factor === 1 ? cast(y, type, false, true) : mulScalar(cast(y, type), factor);
      },
      toFloat: (stream) => stream,
      addScaled_: (sum, stream, { gamma, signs_T1 }) =>
        add_(sum, signs_T1 === undefined ? stream : mul(stream, cast(signs_T1, type)), gamma),
      droppedBits: () => null,
      unscale_: (scaled, _bits, factor) => mulScalar_(flip_(scaled, factor), 1 / factor.gamma),
      check: (stream, where) => {
        if (!Number.isFinite(largestOf(stream))) throw notFinite(where);
      },
    },
  );
