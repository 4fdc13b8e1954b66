// A mixture of routed experts. Each choice of a token has a row; rows are sorted by expert, so each expert does one
// product per matrix. A token's rows are summed in the order of its choices: nothing is added in random order, so bits
// are the same every time.
import { isRecorded, junction } from "../../torch/graph.js";
import { hasKernels } from "../../torch/kernels/kernels.js";
import { bincount, expertPlaces, reshape, sortStable } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, shape, type Tensor } from "../../torch/tensor.js";
import type { Context } from "../../model/context.js";
import { type ExpertRows, type Experts, type ExpertsElsewhere, expertsOutput } from "../../model/expert-rows.js";
import { probabilities, type Router } from "./router.js";

export interface RoutedExperts extends Experts {
  expertsPerToken: number;
  router: Router;
  /** See `Choice` in router.ts. */
  correction?: Tensor | null;
  /** See `expertRows` and `elsewhere` of `Weights`. */
  rows?: ExpertRows | null;
  elsewhere?: ExpertsElsewhere | null;
}

/**
 * sum_k g_k(x) expert_k(x) over the experts chosen by the logits `given_TE`; x_TD -> [T, D]. With experts elsewhere,
 * `x_TD` must be a junction.
 */
export function routedExperts(
  x_TD: Tensor,
  given_TE: Tensor,
  experts: RoutedExperts,
  layer: number,
  { routing, routerObserver }: Pick<Context, "routing" | "routerObserver">,
): Tensor {
  const { router, correction = null, expertsPerToken: choices, elsewhere = null } = experts;
  // With a junction, losses on logits are differentiated before what lies behind the gates.
  const logits_TE = elsewhere ? junction(given_TE) : given_TE;
  const scores_TE = router.scores(logits_TE);
  const seen = (): Tensor => (router.scores === probabilities ? scores_TE : probabilities(logits_TE));
  routerObserver?.observe(layer, logits_TE, seen);
  const indices_TA = routing.choose(layer, () => router.choice?.(scores_TE, correction) ?? scores_TE, choices);
  const gates_TA = router.gates(scores_TE, indices_TA);

  return scope(() => {
    const { places_TA, counts_E } = placesOf(indices_TA, shape(logits_TE)[1]);
    const chosen = { gates_TA, places_TA, counts_E, known_E: routing.counted(layer, counts_E) };
    const { rows } = experts;
    if (elsewhere) return elsewhere.output(reshape(x_TD, shape(x_TD)), chosen, layer);
    return rows && isRecorded() ? rows.output(x_TD, chosen, experts) : expertsOutput(x_TD, chosen, experts);
  });
}

function placesOf(indices_TA: Tensor, count: number): { places_TA: Tensor; counts_E: Tensor } {
  if (hasKernels(device(indices_TA))) {
    const [places_TA, counts_E] = expertPlaces(indices_TA, count);
    return { places_TA, counts_E };
  }
  const expert_R = reshape(indices_TA, [-1]);
  const order_R = sortStable(expert_R, true, 0)[1];
  const places_TA = reshape(sortStable(order_R, true, 0)[1], shape(indices_TA));
  return { places_TA, counts_E: bincount(expert_R, null, count) };
}
