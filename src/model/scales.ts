// Factors of embedded tokens and of logits. A model without them computes nothing for them; for logits see reversible/logits.ts.
import { mulScalar } from "../torch/ops.js";
import type { Tensor } from "../torch/tensor.js";
import type { Scales } from "./architecture.js";

export const NO_SCALES: Scales = { embedding: 1, logits: 1, softCap: null };

/** e x for embedded tokens x; the gradient of x is e times that of the result. */
export const scaleEmbedding = ({ embedding }: Scales, x_TD: Tensor): Tensor =>
  embedding === 1 ? x_TD : mulScalar(x_TD, embedding);
