// The family of Qwen3-30B-A3B and Qwen3-235B-A22B (model_type "qwen3_moe"): RMSNorm on each head of queries and keys
// before the rotary positions; a head width of its own, so that heads times width need not be the hidden size; no shared
// expert; dense layers as in qwen2_moe. Agrees with modeling_qwen3_moe.py of transformers.
import { denseFeedForward } from "../layers/dense.js";
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { softmaxRouter } from "../layers/experts/router.js";
import { MOST } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { denseOf, expertsOf, headsOf, readGeometry, routedBySteps } from "./geometry.js";

export const qwen3Moe: Family = {
  modelType: "qwen3_moe",
  classes: causalClasses("Qwen3Moe"),
  expertsKeyIn4: "num_experts",
  read: (read) => {
    const geometry = readGeometry(read, {
      keyValueHeads: null,
      normEpsilon: 1e-6,
      theta: 10_000,
      maxPositions: 32_768,
      expertsPerToken: 8,
    });
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "all" : "none",
      queryKeyNorm: "head",
      clip: null,
      // Unlike qwen2_moe, the window holds for every layer once it is on.
      window: read.boolean("use_sliding_window", false) ? read.integer("sliding_window") : null,
    } as const;
    const expertWidth = read.integer("moe_intermediate_size", undefined, 1, MOST.width);
    const router = softmaxRouter(read.boolean("norm_topk_prob", false));
    const routed = routedBySteps(read, geometry);
    return decoder(read, {
      geometry,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routed[layer]
          ? routedFeedForward(layer, { ...expertsOf(geometry), expertWidth, router, names: USUAL_NAMES })
          : denseFeedForward(denseOf(geometry)),
      }),
    });
  },
};
