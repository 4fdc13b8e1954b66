// Parameter counts of released models from the numbers in their config.json, against the published counts: what a family
// has too much or too little of shows here, however tiny the models of the other tests are.
import assert from "node:assert/strict";
import { test } from "node:test";

import { chosenShares } from "../layers/experts/router.js";
import { isRouted } from "../model/architecture.js";
import { parameterCount, placedParameters } from "../model/model.js";
import { readArchitecture } from "./registry.js";
import { attentionIn, expertsIn } from "./testing-config.js";

const GRANITE = {
  model_type: "granitemoe",
  hidden_act: "silu",
  intermediate_size: 512,
  num_key_value_heads: 8,
  num_experts_per_tok: 8,
  attention_bias: false,
  attention_dropout: 0.1,
  attention_multiplier: 0.015625,
  embedding_multiplier: 12.0,
  residual_multiplier: 0.22,
  logits_scaling: 6.0,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 10000,
  initializer_range: 0.02,
  tie_word_embeddings: true,
  vocab_size: 49155,
};
const RELEASED: { name: string; count: number; source: Record<string, unknown> }[] = [
  {
    name: "Qwen1.5-MoE-A2.7B",
    count: 14_315_784_192,
    source: {
      model_type: "qwen2_moe",
      hidden_act: "silu",
      hidden_size: 2048,
      intermediate_size: 5632,
      moe_intermediate_size: 1408,
      shared_expert_intermediate_size: 5632,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      num_experts: 60,
      num_experts_per_tok: 4,
      decoder_sparse_step: 1,
      norm_topk_prob: false,
      max_position_embeddings: 8192,
      max_window_layers: 21,
      sliding_window: 32768,
      use_sliding_window: false,
      attention_dropout: 0.0,
      rms_norm_eps: 1e-6,
      rope_theta: 1000000.0,
      initializer_range: 0.02,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      vocab_size: 151936,
    },
  },
  {
    name: "Qwen3-30B-A3B",
    count: 30_532_122_624,
    source: {
      model_type: "qwen3_moe",
      hidden_act: "silu",
      hidden_size: 2048,
      intermediate_size: 6144,
      moe_intermediate_size: 768,
      num_hidden_layers: 48,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      head_dim: 128,
      num_experts: 128,
      num_experts_per_tok: 8,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
      norm_topk_prob: true,
      attention_bias: false,
      attention_dropout: 0.0,
      max_position_embeddings: 40960,
      max_window_layers: 48,
      sliding_window: null,
      use_sliding_window: false,
      rms_norm_eps: 1e-6,
      rope_scaling: null,
      rope_theta: 1000000.0,
      initializer_range: 0.02,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      vocab_size: 151936,
    },
  },
  {
    name: "Mixtral-8x7B",
    count: 46_702_792_704,
    source: {
      model_type: "mixtral",
      hidden_act: "silu",
      hidden_size: 4096,
      intermediate_size: 14336,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      num_local_experts: 8,
      num_experts_per_tok: 2,
      attention_dropout: 0.0,
      max_position_embeddings: 32768,
      sliding_window: null,
      rms_norm_eps: 1e-5,
      rope_theta: 1000000.0,
      initializer_range: 0.02,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      vocab_size: 32000,
    },
  },
  {
    name: "OLMoE-1B-7B",
    count: 6_919_161_856,
    source: {
      model_type: "olmoe",
      hidden_act: "silu",
      hidden_size: 2048,
      intermediate_size: 1024,
      num_hidden_layers: 16,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      num_experts: 64,
      num_experts_per_tok: 8,
      norm_topk_prob: false,
      attention_bias: false,
      attention_dropout: 0.0,
      clip_qkv: null,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      rope_scaling: null,
      rope_theta: 10000.0,
      initializer_range: 0.02,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      vocab_size: 50304,
    },
  },
  {
    name: "Granite-3.0-1B-A400M",
    count: 1_334_628_352,
    source: { ...GRANITE, hidden_size: 1024, num_hidden_layers: 24, num_attention_heads: 16, num_local_experts: 32 },
  },
  {
    name: "Granite-3.0-3B-A800M",
    count: 3_298_793_472,
    source: { ...GRANITE, hidden_size: 1536, num_hidden_layers: 32, num_attention_heads: 24, num_local_experts: 40 },
  },
];

for (const { name, count, source } of RELEASED) {
  test(`${name} has ${(count / 1e9).toFixed(1)} billion parameters`, () => {
    const architecture = readArchitecture(source, "config.json");
    assert.equal(parameterCount(placedParameters(architecture)), count);
    assert.ok(architecture.layers.every(isRouted));
    assert.equal(new Set(architecture.layers.map(({ kind }) => kind)).size, 1);
    const { headDim, window } = attentionIn(architecture);
    assert.deepEqual(architecture.rotary, [{ theta: source.rope_theta, scaling: { type: "default" }, width: headDim }]);
    assert.equal(window, null);
    const [{ router }] = expertsIn(architecture.layers);
    assert.equal(router.gates === chosenShares, ["qwen3_moe", "mixtral"].includes(architecture.modelType));
  });
}
