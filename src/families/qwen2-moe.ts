// The family of Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B (model_type "qwen2_moe"): attention with biases on query, key and
// value; softmax over all experts before the top k; a shared expert behind its own sigmoid gate; dense layers between
// sparse ones by `decoder_sparse_step` and `mlp_only_layers`. Agrees with modeling_qwen2_moe.py of transformers.
import { denseFeedForward } from "../layers/dense.js";
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { softmaxRouter } from "../layers/experts/router.js";
import { MOST } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { denseOf, expertsOf, headsOf, readGeometry, routedBySteps } from "./geometry.js";

export const qwen2Moe: Family = {
  modelType: "qwen2_moe",
  classes: causalClasses("Qwen2Moe"),
  expertsKeyIn4: "num_experts",
  read: (read) => {
    read.only("use_sliding_window", [false]);
    read.only("qkv_bias", [true]);
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-6,
      theta: 10_000,
      maxPositions: 32_768,
      expertsPerToken: 4,
    });
    const expertWidth = read.integer("moe_intermediate_size", undefined, 1, MOST.width);
    const sharedWidth = read.integer("shared_expert_intermediate_size", undefined, 1, MOST.width);
    const router = softmaxRouter(read.boolean("norm_topk_prob", false));
    const routed = routedBySteps(read, geometry);
    const attention = { ...headsOf(geometry), bias: "qkv", queryKeyNorm: "none", clip: null, window: null } as const;
    return decoder(read, {
      geometry,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routed[layer]
          ? routedFeedForward(layer, { ...expertsOf(geometry), expertWidth, sharedWidth, router, names: USUAL_NAMES })
          : denseFeedForward(denseOf(geometry)),
      }),
    });
  },
};
