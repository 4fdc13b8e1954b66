// The family of Qwen3-30B-A3B and Qwen3-235B-A22B (model_type "qwen3_moe"): RMSNorm on each head of queries and keys
// before the rotary positions; a head width of its own, so that heads times width need not be the hidden size; no shared
// expert; dense layers as in qwen2_moe. Agrees with modeling_qwen3_moe.py of transformers.
import type { ModelConfig } from "./architecture.js";
import { type ConfigReader, MOST } from "./config.js";
import { readGeometry, sparseBySteps } from "./geometry.js";
import { preNormDecoder } from "./pre-norm-decoder.js";

function readConfig(read: ConfigReader): ModelConfig {
  const geometry = readGeometry(read, {
    keyValueHeads: null,
    normEpsilon: 1e-6,
    theta: 10_000,
    maxPositions: 32_768,
    expertsPerToken: 8,
  });
  return {
    modelType: "qwen3_moe",
    ...geometry,
    attentionBias: read.boolean("attention_bias", false) ? "all" : "none",
    queryKeyNorm: "head",
    clipQkv: null,
    // Unlike qwen2_moe, the window holds for every layer once it is on.
    slidingWindow: read.boolean("use_sliding_window", false) ? read.integer("sliding_window") : null,
    expertWidth: read.integer("moe_intermediate_size", undefined, 1, MOST.width),
    sharedExpertWidth: 0,
    normalizeTopK: read.boolean("norm_topk_prob", false),
    sparse: sparseBySteps(read, geometry),
  };
}

export const qwen3Moe = preNormDecoder({ modelType: "qwen3_moe", readConfig });
