// Factors on embedded tokens. A factor of 1 is not computed; factors on logits are in reversible/logits.ts.
import { mulScalar } from "../torch/ops.js";
import type { Tensor } from "../torch/tensor.js";
import type { Scales } from "./architecture.js";

export const NO_SCALES: Scales = { embedding: 1, logits: 1, softCap: null };

/**
 * e x for embedded tokens x, where e is the factor. The gradient of x is the same function of the result's gradient.
 */
export const scaleEmbedding = ({ embedding }: Scales, x_TD: Tensor): Tensor =>
  embedding === 1 ? x_TD : mulScalar(x_TD, embedding);
