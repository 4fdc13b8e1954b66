// Router jitter: in training, the input of a layer with experts is multiplied, element by element, by uniform noise
// from [1 - epsilon, 1 + epsilon), before the router and all experts (transformers' MixtralSparseMoeBlock; the input
// jitter of Switch Transformers, arXiv 2101.03961). Noise follows from its place alone, so recomputation draws the
// same. It is drawn for all tokens, and a tile takes its rows of it; so tiles do not change it.
import { cast, mul, narrow, uniform_ } from "../../torch/ops.js";
import { seedFor, setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, empty, shape, type Tensor } from "../../torch/tensor.js";

/**
 * h_ND -> h_ND * noise_ND, with noise in the dtype of h; `place` identifies the micro-batch, such as (seed, step,
 * index).
 */
export const routerJitter =
  (epsilon: number, ...place: number[]) =>
  (h_ND: Tensor, layer: number, tile?: { first: number; tokens: number }): Tensor => {
    const [rows, width] = shape(h_ND);
    const { first, tokens } = tile ?? { first: 0, tokens: rows };
    const noise_ND = scope(() => {
      setSeed(seedFor(...place, layer));
      const noise_TD = uniform_(empty([tokens, width], dtype(h_ND), device(h_ND)), 1 - epsilon, 1 + epsilon);
      // A copy, because a view kept by autograd would keep the whole noise alive.
      return rows === tokens ? noise_TD : cast(narrow(noise_TD, 0, first, rows), dtype(h_ND), false, true);
    });
    return mul(h_ND, noise_ND);
  };
