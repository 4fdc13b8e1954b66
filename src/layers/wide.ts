// Float32 for what is not to be computed in less.
import { cast } from "../torch/ops.js";
import { dtype, type Tensor } from "../torch/tensor.js";

/** In float32, or float64 where it is that; itself where it is already. */
export const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");
