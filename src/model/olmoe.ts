// The family of OLMoE-1B-7B (model_type "olmoe"): RMSNorm over the whole query and key vectors before they are split into
// heads, an optional limit on queries, keys and values, every layer sparse, experts of width `intermediate_size`. Agrees
// with modeling_olmoe.py of transformers.
import type { ModelConfig } from "./architecture.js";
import type { ConfigReader } from "./config.js";
import { readGeometry, sparseEverywhere } from "./geometry.js";
import { preNormDecoder } from "./pre-norm-decoder.js";

function readConfig(read: ConfigReader): ModelConfig {
  const geometry = readGeometry(read, {
    keyValueHeads: "as many as heads",
    normEpsilon: 1e-5,
    theta: 10_000,
    maxPositions: 4096,
    expertsPerToken: 8,
  });
  const { hiddenSize, numHeads } = geometry;
  read.only("head_dim", [hiddenSize / numHeads]);
  return {
    modelType: "olmoe",
    ...geometry,
    attentionBias: read.boolean("attention_bias", false) ? "all" : "none",
    queryKeyNorm: "whole",
    clipQkv: read.holds("clip_qkv") ? read.number("clip_qkv") : null,
    slidingWindow: null,
    expertWidth: geometry.denseWidth,
    sharedExpertWidth: 0,
    normalizeTopK: read.boolean("norm_topk_prob", false),
    sparse: sparseEverywhere(read, geometry),
  };
}

export const olmoe = preNormDecoder({ modelType: "olmoe", readConfig });
