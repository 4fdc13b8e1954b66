// How tokens choose experts, in three parts: scores from the router's logits, the choice of the largest, and the gates that
// weigh what the chosen ones return. A family names one of each.
import { div, gather, softmax, sumDim } from "../../torch/ops.js";
import { dtype, type Tensor } from "../../torch/tensor.js";

/** logits_TE -> scores_TE, which the choice is made by. */
export type Scores = (logits_TE: Tensor) => Tensor;

/** scores_TE and indices_TA of the chosen -> gates_TA. */
export type Gates = (scores_TE: Tensor, indices_TA: Tensor) => Tensor;

export interface Router {
  scores: Scores;
  gates: Gates;
}

/** p = softmax over all experts, in float32 (float64 for float64). */
export const probabilities: Scores = (logits_TE) =>
  softmax(logits_TE, -1, dtype(logits_TE) === "float64" ? "float64" : "float32");

/** The logits themselves. */
export const rawLogits: Scores = (logits_TE) => logits_TE;

/** The scores of the chosen. */
export const chosenScores: Gates = (scores_TE, indices_TA) => gather(scores_TE, 1, indices_TA);

/** The scores of the chosen, divided by their sum. */
export function chosenShares(scores_TE: Tensor, indices_TA: Tensor): Tensor {
  const chosen_TA = gather(scores_TE, 1, indices_TA);
  return div(chosen_TA, sumDim(chosen_TA, [-1], true));
}

/** softmax over the chosen alone. */
export const softmaxOfChosen: Gates = (scores_TE, indices_TA) => probabilities(gather(scores_TE, 1, indices_TA));

/** Softmax over all, then the largest, rescaled to sum to one or as they are: Mixtral, Qwen-MoE, OLMoE. */
export const softmaxRouter = (normalize: boolean): Router => ({
  scores: probabilities,
  gates: normalize ? chosenShares : chosenScores,
});

/** The largest logits, then softmax over these: Granite, gpt-oss. */
export const topLogitsRouter: Router = { scores: rawLogits, gates: softmaxOfChosen };
