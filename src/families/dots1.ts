// The family of dots.llm1 (model_type "dots1"): the router of DeepSeek-V3 and a shared expert that is added as it is, behind attention
// with norms of heads; first layers dense; windows where a file names layers that have them. Agrees with modeling_dots1.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { denseFeedForward } from "../layers/dense.js";
import { routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { ConfigReader, MOST } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { denseOf, expertsOf, headsOf, readGeometry, sharedWidth } from "./geometry.js";
import { readSigmoidRouter } from "./parts/grouped-router.js";
import { readWindows } from "./parts/windows.js";

/** Of its class, where a file has no such key: windows begin behind the last layer of the released model. */
const DEFAULTS = { num_key_value_heads: 32, sliding_window: 4096, max_window_layers: 62 };

export const dots1: Family = {
  modelType: "dots1",
  classes: causalClasses("Dots1"),
  read: (file) => {
    // What other files call the way to choose, released ones call the scores.
    file.only("scoring_func", ["sigmoid", "noaux_tc"]);
    const { scoring_func: _, ...source } = file.source;
    const read = new ConfigReader({ ...DEFAULTS, ...source }, file.where);
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-6,
      theta: 10_000,
      maxPositions: 2048,
      expertsPerToken: null,
      expertsKey: "n_routed_experts",
    });
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "all" : "none",
      queryKeyNorm: "head",
      clip: null,
    } as const;
    const expertWidth = read.integer("moe_intermediate_size", 1408, 1, MOST.width);
    const experts = {
      ...expertsOf(geometry),
      expertWidth,
      router: readSigmoidRouter(read, geometry, { factor: 1, shares: false }),
      wideRouter: true,
      correction: [geometry.numExperts],
      sharedWidth: sharedWidth(read, "n_shared_experts", expertWidth, 1),
      sharedGate: false,
      names: USUAL_NAMES,
    };
    const hasWindows = read.holds("sliding_window");
    const firstNear = hasWindows ? read.integer("max_window_layers", undefined, 0) : 0;
    const windows = readWindows(read, geometry.numLayers, (layer) => hasWindows && layer >= firstNear);
    const firstRouted = read.integer("first_k_dense_replace", 0, 0);
    return decoder(file, {
      geometry,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, { ...attention, window: windows[layer] }),
        feedForward: layer < firstRouted ? denseFeedForward(denseOf(geometry)) : routedFeedForward(layer, experts),
      }),
    });
  },
};
