// The family of GLM-4.5, GLM-4.5-Air, GLM-4.6 and GLM-4.7 (model_type "glm4_moe"): the router of DeepSeek-V3, a shared expert
// that is added as it is, first layers dense; half of a head's features turn; biases on query, key and value, norms of heads where
// the file says so. The layers behind the last predict further tokens and pass through. Agrees with modeling_glm4_moe.py of
// transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { denseFeedForward } from "../layers/dense.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { MOST } from "./config-reader.js";
import { decoder, predictionLayers } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { denseOf, expertsOf, headsOf, readGeometry, sharedWidth } from "./geometry.js";
import { readSigmoidRouter } from "./parts/grouped-router.js";

export const glm4Moe: Family = {
  modelType: "glm4_moe",
  classes: causalClasses("Glm4Moe"),
  read: (read) => {
    const geometry = readGeometry(read, {
      keyValueHeads: null,
      normEpsilon: 1e-5,
      theta: 10_000,
      maxPositions: 131_072,
      expertsPerToken: 8,
      expertsKey: "n_routed_experts",
      partialRotary: 0.5,
    });
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "qkv" : "none",
      queryKeyNorm: read.boolean("use_qk_norm", false) ? "head" : "none",
      clip: null,
      window: null,
    } as const;
    const expertWidth = read.integer("moe_intermediate_size", undefined, 1, MOST.width);
    const experts = {
      ...expertsOf(geometry),
      expertWidth,
      router: readSigmoidRouter(read, geometry, { factor: 1 }),
      wideRouter: true,
      correction: [geometry.numExperts],
      sharedWidth: sharedWidth(read, "n_shared_experts", expertWidth, 1, 1),
      sharedGate: false,
      names: USUAL_NAMES,
    };
    const firstRouted = read.integer("first_k_dense_replace", 1, 0);
    return decoder(read, {
      geometry,
      expertWidth,
      passThrough: predictionLayers(geometry, read.integer("num_nextn_predict_layers", 1, 0, MOST.layers)),
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: layer < firstRouted ? denseFeedForward(denseOf(geometry)) : routedFeedForward(layer, experts),
      }),
    });
  },
};
