// For tests: the config.json of a model small enough for every bit of it to be looked at, and what branches were made from.
import type { GroupedQuery } from "../layers/attention/grouped-query.js";
import type { RoutedFeedForward } from "../layers/experts/feed-forward.js";
import { type Architecture, isRouted, type Layer } from "../model/architecture.js";

/** Of the first layer that has grouped heads. */
export const attentionIn = ({ layers }: Architecture): GroupedQuery =>
  (layers.find(({ attention }) => "numKeyValueHeads" in attention.settings) ?? layers[0]).attention
    .settings as GroupedQuery;

export const expertsIn = (layers: Layer[]): RoutedFeedForward[] =>
  layers.filter(isRouted).map(({ feedForward }) => feedForward.settings as RoutedFeedForward);

export const TINY_QWEN2_MOE = {
  model_type: "qwen2_moe",
  vocab_size: 97,
  hidden_size: 32,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 48,
  moe_intermediate_size: 24,
  shared_expert_intermediate_size: 40,
  num_experts: 8,
  num_experts_per_tok: 3,
  num_hidden_layers: 5,
  mlp_only_layers: [2],
  initializer_range: 0.2,
};
