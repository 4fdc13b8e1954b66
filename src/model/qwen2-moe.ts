// The family of Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B (model_type "qwen2_moe"): attention with biases on query, key and
// value; softmax over all experts before the top k; a shared expert behind its own sigmoid gate; dense layers between
// sparse ones by `decoder_sparse_step` and `mlp_only_layers`. Agrees with modeling_qwen2_moe.py of transformers.
import type { ModelConfig } from "./architecture.js";
import { type ConfigReader, MOST } from "./config.js";
import { readGeometry, sparseBySteps } from "./geometry.js";
import { preNormDecoder } from "./pre-norm-decoder.js";

function readConfig(read: ConfigReader): ModelConfig {
  read.only("use_sliding_window", [false]);
  read.only("qkv_bias", [true]);
  const geometry = readGeometry(read, {
    keyValueHeads: "as many as heads",
    normEpsilon: 1e-6,
    theta: 10_000,
    maxPositions: 32_768,
    expertsPerToken: 4,
  });
  return {
    modelType: "qwen2_moe",
    ...geometry,
    attentionBias: "qkv",
    queryKeyNorm: "none",
    clipQkv: null,
    slidingWindow: null,
    expertWidth: read.integer("moe_intermediate_size", undefined, 1, MOST.width),
    sharedExpertWidth: read.integer("shared_expert_intermediate_size", undefined, 1, MOST.width),
    normalizeTopK: read.boolean("norm_topk_prob", false),
    sparse: sparseBySteps(read, geometry),
  };
}

export const qwen2Moe = preNormDecoder({ modelType: "qwen2_moe", readConfig });
