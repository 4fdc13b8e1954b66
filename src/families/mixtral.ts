// The family of Mixtral-8x7B and 8x22B (model_type "mixtral"): plain projections, an optional sliding window, gates of the
// top k always rescaled to sum to one, every layer sparse. On disk its routed layer is `block_sparse_moe` with w1 (gate),
// w3 (up) and w2 (down); transformers 5 calls it `mlp` in memory, as we do. Agrees with modeling_mixtral.py.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { routedFeedForward, type ExpertNames } from "../layers/experts/feed-forward.js";
import { softmaxRouter } from "../layers/experts/router.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, routedEverywhere } from "./geometry.js";

const NAMES: ExpertNames = {
  router: { "per-expert": "block_sparse_moe.gate.weight" },
  each: { template: "block_sparse_moe.experts.{expert}.{part}.weight", gate: "w1", up: "w3", down: "w2" },
};

export const mixtral: Family = {
  modelType: "mixtral",
  classes: causalClasses("Mixtral"),
  expertsKeyIn4: "num_local_experts",
  read: (read) => {
    const geometry = readGeometry(read, {
      keyValueHeads: null,
      normEpsilon: 1e-5,
      theta: 1_000_000,
      maxPositions: 131_072,
      expertsPerToken: 2,
    });
    routedEverywhere(read, geometry);
    const attention = {
      ...headsOf(geometry),
      bias: "none",
      queryKeyNorm: "none",
      clip: null,
      window: read.holds("sliding_window") ? read.integer("sliding_window") : null,
    } as const;
    const expertWidth = geometry.denseWidth;
    const experts = { ...expertsOf(geometry), expertWidth, router: softmaxRouter(true), names: NAMES };
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
