// How tokens choose experts, in three functions: scores from the router's logits, the numbers that are compared for the
// choice, and gates, the weights of the chosen experts' results. A family names one of each.
import {
  add,
  addScalar,
  amax,
  clamp,
  detach,
  div,
  expand,
  gather,
  log,
  mulScalar,
  reshape,
  scatterAdd_,
  sigmoid,
  softmax,
  sumDim,
  topk,
  unsqueeze,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, full, shape, type Tensor, zeros } from "../../torch/tensor.js";
import { wide } from "../wide.js";

/** logits_TE -> scores_TE, from which gates are made. */
export type Scores = (logits_TE: Tensor) => Tensor;

/**
 * scores_TE -> numbers whose largest are chosen, without a gradient. `correction`, in families that have one, is a
 * number per expert that raises or lowers its chance.
 */
export type Choice = (scores_TE: Tensor, correction: Tensor | null) => Tensor;

/** scores_TE and indices_TA of the chosen experts -> gates_TA. */
export type Gates = (scores_TE: Tensor, indices_TA: Tensor) => Tensor;

export interface Router {
  scores: Scores;
  /** Chooses by the scores themselves if it is missing. */
  choice?: Choice;
  gates: Gates;
}

/** p = softmax over all experts, in float32 (float64 for float64). */
export const probabilities: Scores = (logits_TE) =>
  softmax(logits_TE, -1, dtype(logits_TE) === "float64" ? "float64" : "float32");

/** The logits themselves. */
export const rawLogits: Scores = (logits_TE) => logits_TE;

/** 1 / (1 + exp(-z)) of each expert's logit, in float32 (float64 for float64). */
export const sigmoids: Scores = (logits_TE) => sigmoid(wide(logits_TE));

/** The scores plus the correction. */
export const correctedChoice: Choice = (scores_TE, correction) =>
  correction === null ? detach(scores_TE) : add(detach(scores_TE), correction);

/**
 * `count` groups of experts of equal size. A token may choose only from the best `kept`; a group is as good as its best
 * expert, or its best two together.
 */
export interface Groups {
  count: number;
  kept: number;
  rank: "best" | "best two";
}

/** The scores plus the correction; minus infinity in groups that are not kept. */
export const groupedChoice = ({ count, kept, rank }: Groups): Choice =>
  kept === count
    ? correctedChoice
    : (scores_TE, correction) =>
        scope(() => {
          const choice_TE = correctedChoice(scores_TE, correction);
          const [tokens, experts] = shape(choice_TE);
          const choice_TGM = reshape(choice_TE, [tokens, count, experts / count]);
          const ranks_TG = rank === "best" ? amax(choice_TGM, [-1]) : sumDim(topk(choice_TGM, 2, -1)[0], [-1], false);
          const best_TG = topk(ranks_TG, kept, -1)[1];
          const [type, place] = [dtype(choice_TE), device(choice_TE)];
          const isKept_TG = scatterAdd_(
            zeros([tokens, count], type, place),
            1,
            best_TG,
            full([tokens, kept], 1, type, place),
          );
          const barred_TGM = expand(unsqueeze(log(isKept_TG), -1), [tokens, count, experts / count]);
          return reshape(add(choice_TGM, barred_TGM), [tokens, experts]);
        });

/** The chosen experts' scores. */
export const chosenScores: Gates = (scores_TE, indices_TA) => gather(scores_TE, 1, indices_TA);

/** The chosen experts' scores, divided by `divisor` of their sum. */
const sharesOf =
  (divisor: (sum_T1: Tensor) => Tensor): Gates =>
  (scores_TE, indices_TA) => {
    const chosen_TA = gather(scores_TE, 1, indices_TA);
    return div(chosen_TA, divisor(sumDim(chosen_TA, [-1], true)));
  };

/** The chosen experts' scores, divided by their sum. */
export const chosenShares: Gates = sharesOf((sum_T1) => sum_T1);

/** The same with a divisor of at least `least`. */
export const sharesOfAtLeast = (least: number): Gates => sharesOf((sum_T1) => clamp(sum_T1, least));

/** Gates times a factor; `gates` itself if it is 1. */
export const scaledGates = (gates: Gates, factor: number): Gates =>
  factor === 1 ? gates : (scores_TE, indices_TA) => mulScalar(gates(scores_TE, indices_TA), factor);

/** softmax over the chosen experts' logits. */
export const softmaxOfChosen: Gates = (scores_TE, indices_TA) => probabilities(gather(scores_TE, 1, indices_TA));

/** Softmax over all, then the largest, divided by their sum or as they are: Mixtral, Qwen-MoE, OLMoE. */
export const softmaxRouter = (normalize: boolean): Router => ({
  scores: probabilities,
  gates: normalize ? chosenShares : chosenScores,
});

/** The largest logits, then softmax over them: Granite, gpt-oss. */
export const topLogitsRouter: Router = { scores: rawLogits, gates: softmaxOfChosen };

/**
 * Sigmoids; the largest are chosen, with a correction and by groups: DeepSeek-V3 and its kin. Normalised gates divide
 * by their sum + 1e-20.
 */
export const sigmoidRouter = (groups: Groups, normalize: boolean, factor: number): Router => ({
  scores: sigmoids,
  choice: groupedChoice(groups),
  gates: scaledGates(normalize ? sharesOf((sum_T1) => addScalar(sum_T1, 1e-20)) : chosenScores, factor),
});
