// The feed-forward branch of a pre-norm block, as far as families share it: norm, then a dense gated unit, or routed
// experts with or without a shared one. What a family has of these is in its ModelConfig.
import { add, cast, linear, mul, sigmoid } from "../torch/ops.js";
import { dtype, type Tensor } from "../torch/tensor.js";
import type { ModelConfig, ParameterSpec, Weights } from "./architecture.js";
import type { Context } from "./context.js";
import { EXPERT_MATRICES } from "./expert-rows.js";
import { gatedLinear, routedExperts } from "./moe.js";
import { rmsNorm } from "./norm.js";

/** How routed layers are named on disk, expert by expert; in memory, all families have the names of transformers 5. */
export interface ExpertNames {
  router: string;
  template: string;
  gate: string;
  up: string;
  down: string;
}

export const USUAL_NAMES: ExpertNames = {
  router: "mlp.gate.weight",
  template: "mlp.experts.{expert}.{part}.weight",
  gate: "gate_proj",
  up: "up_proj",
  down: "down_proj",
};

/** Parameters in the order of the forward pass, from the norm before the feed-forward layer. */
export function feedForwardParameters(config: ModelConfig, layer: number, names: ExpertNames): ParameterSpec[] {
  const { hiddenSize: D, expertWidth: F, numExperts: E, sharedExpertWidth: shared } = config;
  const matrix = (name: string, ...shape: number[]): ParameterSpec => ({ name, shape, init: "normal" });
  const gatedUnit = (prefix: string, width: number): ParameterSpec[] => [
    matrix(`${prefix}.gate_proj.weight`, width, D),
    matrix(`${prefix}.up_proj.weight`, width, D),
    matrix(`${prefix}.down_proj.weight`, D, width),
  ];
  const norm: ParameterSpec = { name: "post_attention_layernorm.weight", shape: [D], init: "ones" };
  if (!config.sparse[layer]) return [norm, ...gatedUnit("mlp", config.denseWidth)];
  const { template } = names;
  return [
    norm,
    { ...matrix("mlp.gate.weight", E, D), perExpertName: names.router, router: true },
    { ...matrix(EXPERT_MATRICES.gateUp, E, 2 * F, D), experts: { template, parts: [names.gate, names.up] } },
    { ...matrix(EXPERT_MATRICES.down, E, D, F), experts: { template, parts: [names.down] } },
    ...(shared === 0 ? [] : [...gatedUnit("mlp.shared_expert", shared), matrix("mlp.shared_expert_gate.weight", 1, D)]),
  ];
}

/** x_TD -> feed_forward(norm(x)) in the dtype of x; see `Architecture.feedForward`. */
export function feedForwardBranch(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor {
  const { config } = context;
  const normed_TD = rmsNorm(
    x_TD,
    weights.get("post_attention_layernorm.weight"),
    config.normEpsilon,
    context.computeDtype,
  );
  const h_TD = context.jitter && config.sparse[layer] ? context.jitter(normed_TD, layer) : normed_TD;
  const unit = (prefix: string): Tensor =>
    gatedLinear(
      h_TD,
      weights.get(`${prefix}.gate_proj.weight`),
      weights.get(`${prefix}.up_proj.weight`),
      weights.get(`${prefix}.down_proj.weight`),
    );
  if (!config.sparse[layer]) return cast(unit("mlp"), dtype(x_TD));
  const routed_TD = routedExperts(
    h_TD,
    {
      router_ED: weights.get("mlp.gate.weight"),
      gateUp: weights.experts(EXPERT_MATRICES.gateUp),
      down: weights.experts(EXPERT_MATRICES.down),
      rows: weights.expertRows,
      expertsPerToken: config.expertsPerToken,
      normalize: config.normalizeTopK,
    },
    layer,
    context.routing,
    context.routerObserver,
  );
  if (config.sharedExpertWidth === 0) return cast(routed_TD, dtype(x_TD));
  const shared_TD = mul(sigmoid(linear(h_TD, weights.get("mlp.shared_expert_gate.weight"))), unit("mlp.shared_expert"));
  return cast(add(routed_TD, shared_TD), dtype(x_TD));
}
