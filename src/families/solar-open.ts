// The family of Solar-Open-100B (model_type "solar_open"): the router of DeepSeek-V3 and a shared expert that is added as it is, in every
// layer; attention without norms of heads. Agrees with modeling_solar_open.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { ConfigReader, MOST } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, sharedWidth } from "./geometry.js";
import { readSigmoidRouter } from "./parts/grouped-router.js";

/** Of its class, where a file has no such key. */
const DEFAULTS = { num_key_value_heads: 8, n_routed_experts: 128 };

export const solarOpen: Family = {
  modelType: "solar_open",
  classes: causalClasses("SolarOpen"),
  read: (file) => {
    const read = new ConfigReader({ ...DEFAULTS, ...file.source }, file.where);
    const geometry = readGeometry(read, {
      keyValueHeads: null,
      headDim: 128,
      normEpsilon: 1e-5,
      theta: 1_000_000,
      maxPositions: 131_072,
      expertsPerToken: 8,
      expertsKey: "n_routed_experts",
      // No layer is dense.
      denseWidth: 1,
    });
    read.integer("n_routed_experts");
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "qkv" : "none",
      queryKeyNorm: "none",
      clip: null,
      window: null,
    } as const;
    const expertWidth = read.integer("moe_intermediate_size", 1280, 1, MOST.width);
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
    return decoder(file, {
      geometry,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routedFeedForward(layer, experts),
      }),
    });
  },
};
