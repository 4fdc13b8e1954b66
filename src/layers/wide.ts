// Float32 for what must not be computed in less.
import { cast } from "../torch/ops.js";
import { dtype, type Tensor } from "../torch/tensor.js";

/** `t` in float32 (float64 stays float64); `t` itself if it has that dtype. */
export const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");
