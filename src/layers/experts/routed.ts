// A mixture over routed experts. Tokens are sorted by expert, so that each expert does one product per matrix, and a token's
// contributions are put back side by side and summed over its choices: no scattered additions, so the result has the same bits
// every time.
import {
  bincount,
  cast,
  embedding,
  floorDivide,
  groupedExperts,
  indexSelect,
  mul,
  reshape,
  sortStable,
  sumDim,
  unsqueeze,
} from "../../torch/ops.js";
import { isRecorded } from "../../torch/graph.js";
import { free, scope } from "../../torch/scope.js";
import { device, dtype, full, shape, toArray, type Tensor } from "../../torch/tensor.js";
import type { Context } from "../../model/context.js";
import { activationArguments, type ExpertRows, type Experts } from "../../model/expert-rows.js";
import { probabilities, type Router } from "./router.js";

export interface RoutedExperts extends Experts {
  expertsPerToken: number;
  router: Router;
  /** See `Choice`. */
  correction?: Tensor | null;
  /** See `Weights`. */
  rows?: ExpertRows | null;
}

/** sum_k g_k(x) expert_k(x) over the experts chosen by the router's logits; x_TD -> [T, D]. */
export function routedExperts(
  x_TD: Tensor,
  logits_TE: Tensor,
  experts: RoutedExperts,
  layer: number,
  { routing, routerObserver }: Pick<Context, "routing" | "routerObserver">,
): Tensor {
  const [tokens, width] = shape(x_TD);
  const { router, correction = null, expertsPerToken: choices } = experts;
  const scores_TE = router.scores(logits_TE);
  const seen = (): Tensor => (router.scores === probabilities ? scores_TE : probabilities(logits_TE));
  routerObserver?.observe(layer, logits_TE, seen);
  const indices_TA = routing.choose(layer, () => router.choice?.(scores_TE, correction) ?? scores_TE, choices);
  const gates_TA = router.gates(scores_TE, indices_TA);

  const expert_R = reshape(indices_TA, [-1]);
  const order_R = sortStable(expert_R, true, 0)[1];
  const inverse_R = sortStable(order_R, true, 0)[1];
  const counts = toArray(bincount(expert_R, null, experts.gateUp.length));
  const y_RD = scope(() => {
    const x_RD = embedding(x_TD, floorDivide(order_R, full([], choices, "int64", device(x_TD))));
    const { gateUp, down, biases, activation, rows } = experts;
    return rows && isRecorded()
      ? rows.product(x_RD, experts, counts)
      : groupedExperts(x_RD, gateUp, down, counts, biases, ...activationArguments(activation));
  });
  const y_TAD = reshape(indexSelect(y_RD, 0, inverse_R), [tokens, choices, width]);
  free(y_RD);
  return sumDim(mul(y_TAD, unsqueeze(cast(gates_TA, dtype(x_TD)), -1)), [1], false);
}
