// Feed-forward layers: the gated linear unit, and its mixture over routed experts. Tokens are sorted by expert, so
// that each expert does one product per matrix, and a token's contributions are put back side by side and summed over its
// choices: no scattered additions, so the result has the same bits every time.
import {
  bincount,
  cast,
  div,
  embedding,
  floorDivide,
  gather,
  groupedExperts,
  indexSelect,
  linear,
  mul,
  reshape,
  silu,
  softmax,
  sortStable,
  sumDim,
  unsqueeze,
} from "../torch/ops.js";
import { isRecorded } from "../torch/graph.js";
import { free, scope } from "../torch/scope.js";
import { device, dtype, full, shape, toArray, type Tensor } from "../torch/tensor.js";
import type { ExpertRows } from "./expert-rows.js";
import type { RouterObserver, Routing } from "./routing.js";

/** down(silu(gate x) * (up x)). */
export function gatedLinear(x_ND: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor): Tensor {
  return scope(() => {
    const inner_NF = scope(() => mul(silu(linear(x_ND, gate_FD)), linear(x_ND, up_FD)));
    return linear(inner_NF, down_DF);
  });
}

export interface RoutedExperts {
  router_ED: Tensor;
  /** Gate and up in one matrix each: rows 0..F-1 are the gate. */
  gateUp: Tensor[];
  down: Tensor[];
  expertsPerToken: number;
  /** Whether the chosen probabilities are rescaled to sum to one. */
  normalize: boolean;
  /** See `Weights`. */
  rows?: ExpertRows | null;
}

/** sum_k p_k(x) expert_k(x), p = softmax over all experts in float32, then the top k (Mixtral, Qwen-MoE, OLMoE). */
export function routedExperts(
  x_TD: Tensor,
  experts: RoutedExperts,
  layer: number,
  routing: Routing,
  observer?: RouterObserver,
): Tensor {
  const [tokens, width] = shape(x_TD);
  const choices = experts.expertsPerToken;
  const logits_TE = linear(x_TD, experts.router_ED);
  const probabilities_TE = softmax(logits_TE, -1, dtype(x_TD) === "float64" ? "float64" : "float32");
  observer?.observe(layer, logits_TE, probabilities_TE);
  const indices_TA = routing.choose(layer, probabilities_TE, choices);
  let gates_TA = gather(probabilities_TE, 1, indices_TA);
  if (experts.normalize) gates_TA = div(gates_TA, sumDim(gates_TA, [-1], true));

  const expert_R = reshape(indices_TA, [-1]);
  const order_R = sortStable(expert_R, true, 0)[1];
  const inverse_R = sortStable(order_R, true, 0)[1];
  const counts = toArray(bincount(expert_R, null, experts.gateUp.length));
  const y_RD = scope(() => {
    const x_RD = embedding(x_TD, floorDivide(order_R, full([], choices, "int64", device(x_TD))));
    const { gateUp, down, rows } = experts;
    return rows && isRecorded()
      ? rows.product(x_RD, gateUp, down, counts)
      : groupedExperts(x_RD, gateUp, down, counts, []);
  });
  const y_TAD = reshape(indexSelect(y_RD, 0, inverse_R), [tokens, choices, width]);
  free(y_RD);
  return sumDim(mul(y_TAD, unsqueeze(cast(gates_TA, dtype(x_TD)), -1)), [1], false);
}
