// Released sizes that are trained here with random weights: config.json, key by key, and the parameters that it makes. Layers, experts
// and vocabulary can be fewer.
// Qwen1.5-MoE-A2.7B (Apache-2.0, the Qwen team).
const qwen = ({ layers = 24, experts = 60, vocabulary = 151_936 }) => ({
  architectures: ["Qwen2MoeForCausalLM"],
  model_type: "qwen2_moe",
  vocab_size: vocabulary,
  hidden_size: 2048,
  num_hidden_layers: layers,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  intermediate_size: 5632,
  moe_intermediate_size: 1408,
  shared_expert_intermediate_size: 5632,
  num_experts: experts,
  num_experts_per_tok: 4,
  norm_topk_prob: false,
  decoder_sparse_step: 1,
  hidden_act: "silu",
  max_position_embeddings: 8192,
  rope_theta: 1_000_000,
  rms_norm_eps: 1e-6,
  initializer_range: 0.02,
  attention_dropout: 0,
  use_sliding_window: false,
  tie_word_embeddings: false,
  output_router_logits: false,
  router_aux_loss_coef: 0.001,
  torch_dtype: "bfloat16",
});

/** Embedding and head, and for each layer attention with biases, router, experts, shared expert, norms. */
const qwenParameters = ({ layers = 24, experts = 60, vocabulary = 151_936 }) =>
  2 * vocabulary * 2048 +
  2048 +
  layers * (4 * 2048 ** 2 + 3 * 2048 + experts * 2048 + experts * 3 * 1408 * 2048 + 3 * 5632 * 2048 + 2048 + 2 * 2048);

// gpt-oss-20b (Apache-2.0, OpenAI).
const gptOss = ({ layers = 24, experts = 32, vocabulary = 201_088 }) => ({
  architectures: ["GptOssForCausalLM"],
  model_type: "gpt_oss",
  vocab_size: vocabulary,
  hidden_size: 2880,
  num_hidden_layers: layers,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  head_dim: 64,
  intermediate_size: 2880,
  num_local_experts: experts,
  num_experts_per_tok: 4,
  layer_types: Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? "sliding_attention" : "full_attention")),
  sliding_window: 128,
  attention_bias: true,
  hidden_act: "silu",
  swiglu_limit: 7,
  max_position_embeddings: 131_072,
  rope_theta: 150_000,
  rope_scaling: {
    rope_type: "yarn",
    factor: 32,
    beta_fast: 32,
    beta_slow: 1,
    truncate: false,
    original_max_position_embeddings: 4096,
  },
  rms_norm_eps: 1e-5,
  initializer_range: 0.02,
  attention_dropout: 0,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
});

/** Embedding and head, and for each layer attention with biases and sinks, router and experts with biases, norms. */
const gptOssParameters = ({ layers = 24, experts = 32, vocabulary = 201_088 }) => {
  const attention = 2 * 4096 * 2880 + 2 * 512 * 2880 + 4096 + 2 * 512 + 2880 + 64;
  const expert = 3 * 2880 ** 2 + 3 * 2880;
  return 2 * vocabulary * 2880 + 2880 + layers * (attention + experts * (2880 + 1 + expert) + 2 * 2880);
};

// Qwen3-30B-A3B (Apache-2.0, the Qwen team).
const qwen3 = ({ layers = 48, experts = 128, vocabulary = 151_936 }) => ({
  architectures: ["Qwen3MoeForCausalLM"],
  model_type: "qwen3_moe",
  vocab_size: vocabulary,
  hidden_size: 2048,
  num_hidden_layers: layers,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  head_dim: 128,
  intermediate_size: 6144,
  moe_intermediate_size: 768,
  num_experts: experts,
  num_experts_per_tok: 8,
  norm_topk_prob: true,
  decoder_sparse_step: 1,
  mlp_only_layers: [],
  hidden_act: "silu",
  attention_bias: false,
  max_position_embeddings: 40_960,
  rope_theta: 1_000_000,
  rms_norm_eps: 1e-6,
  initializer_range: 0.02,
  attention_dropout: 0,
  use_sliding_window: false,
  tie_word_embeddings: false,
  output_router_logits: false,
  router_aux_loss_coef: 0.001,
  torch_dtype: "bfloat16",
});

/** Embedding and head, and for each layer attention with head norms, router, experts, norms. */
const qwen3Parameters = ({ layers = 48, experts = 128, vocabulary = 151_936 }) =>
  2 * vocabulary * 2048 +
  2048 +
  layers * (2 * 2048 * (4096 + 512) + 2 * 128 + experts * 2048 + experts * 3 * 768 * 2048 + 2 * 2048);

// Mixtral-8x7B-v0.1 (Apache-2.0, Mistral AI).
const mixtral = ({ layers = 32, experts = 8, vocabulary = 32_000 }) => ({
  architectures: ["MixtralForCausalLM"],
  model_type: "mixtral",
  vocab_size: vocabulary,
  hidden_size: 4096,
  num_hidden_layers: layers,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  intermediate_size: 14_336,
  num_local_experts: experts,
  num_experts_per_tok: 2,
  hidden_act: "silu",
  max_position_embeddings: 32_768,
  rope_theta: 1_000_000,
  rms_norm_eps: 1e-5,
  initializer_range: 0.02,
  attention_dropout: 0,
  sliding_window: null,
  tie_word_embeddings: false,
  output_router_logits: false,
  router_aux_loss_coef: 0.02,
  torch_dtype: "bfloat16",
});

/** Embedding and head, and for each layer attention, router, experts, norms. */
const mixtralParameters = ({ layers = 32, experts = 8, vocabulary = 32_000 }) =>
  2 * vocabulary * 4096 +
  4096 +
  layers * (2 * 4096 * (4096 + 1024) + experts * 4096 + experts * 3 * 14_336 * 4096 + 2 * 4096);

export const GEOMETRIES = {
  "qwen1.5-moe": { layers: 24, experts: 60, config: qwen, parameters: qwenParameters },
  "qwen3-30b-a3b": { layers: 48, experts: 128, config: qwen3, parameters: qwen3Parameters },
  "mixtral-8x7b": { layers: 32, experts: 8, config: mixtral, parameters: mixtralParameters },
  "gpt-oss-20b": { layers: 24, experts: 32, config: gptOss, parameters: gptOssParameters },
};
