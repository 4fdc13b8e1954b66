// Router jitter: in training, the input of a layer with experts is multiplied, element by element, by uniform noise from
// [1 - epsilon, 1 + epsilon), before the router and all experts (transformers' MixtralSparseMoeBlock; the input
// jitter of Switch Transformers, arXiv 2101.03961). Noise follows from its place alone, so recomputation draws the same.
import { mul, uniform_ } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

/** h_TD -> h_TD * noise_TD, the noise in the dtype of h; `place` is what identifies the micro-batch, such as (seed, step, index). */
export const routerJitter =
  (epsilon: number, ...place: number[]) =>
  (h_TD: Tensor, layer: number): Tensor => {
    setSeed(seedFor(...place, layer));
    return mul(h_TD, uniform_(empty(shape(h_TD), dtype(h_TD), device(h_TD)), 1 - epsilon, 1 + epsilon));
  };
