// The family of Mixtral-8x7B and 8x22B (model_type "mixtral"): plain projections, an optional sliding window, gates of the
// top k always rescaled to sum to one, every layer sparse. On disk its routed layer is `block_sparse_moe` with w1 (gate),
// w3 (up) and w2 (down); transformers 5 calls it `mlp` in memory, as we do. Agrees with modeling_mixtral.py.
import type { ModelConfig } from "./architecture.js";
import type { ConfigReader } from "./config.js";
import { readGeometry, sparseEverywhere } from "./geometry.js";
import { preNormDecoder } from "./pre-norm-decoder.js";

function readConfig(read: ConfigReader): ModelConfig {
  const geometry = readGeometry(read, {
    keyValueHeads: null,
    normEpsilon: 1e-5,
    theta: 1_000_000,
    maxPositions: 131_072,
    expertsPerToken: 2,
  });
  return {
    modelType: "mixtral",
    ...geometry,
    attentionBias: "none",
    queryKeyNorm: "none",
    clipQkv: null,
    slidingWindow: read.holds("sliding_window") ? read.integer("sliding_window") : null,
    expertWidth: geometry.denseWidth,
    sharedExpertWidth: 0,
    normalizeTopK: true,
    sparse: sparseEverywhere(read, geometry),
  };
}

export const mixtral = preNormDecoder({
  modelType: "mixtral",
  readConfig,
  expertNames: {
    router: "block_sparse_moe.gate.weight",
    template: "block_sparse_moe.experts.{expert}.{part}.weight",
    gate: "w1",
    up: "w3",
    down: "w2",
  },
});
