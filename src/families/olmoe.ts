// The family of OLMoE-1B-7B (model_type "olmoe"): RMSNorm over the whole query and key vectors before they are split into
// heads, an optional limit on queries, keys and values, every layer sparse, experts of width `intermediate_size`. Agrees
// with modeling_olmoe.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { softmaxRouter } from "../layers/experts/router.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, routedEverywhere } from "./geometry.js";

export const olmoe: Family = {
  modelType: "olmoe",
  classes: causalClasses("Olmoe"),
  expertsKeyIn4: "num_experts",
  read: (read) => {
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-5,
      theta: 10_000,
      maxPositions: 4096,
      expertsPerToken: 8,
    });
    const { hiddenSize, numHeads, denseWidth: expertWidth } = geometry;
    read.only("head_dim", [hiddenSize / numHeads]);
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "all" : "none",
      queryKeyNorm: "whole",
      clip: read.holds("clip_qkv") ? read.number("clip_qkv") : null,
      window: null,
    } as const;
    routedEverywhere(read, geometry);
    const router = softmaxRouter(read.boolean("norm_topk_prob", false));
    const experts = { ...expertsOf(geometry), expertWidth, router, names: USUAL_NAMES };
    return decoder(read, {
      geometry,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routedFeedForward(layer, experts),
      }),
    });
  },
};
