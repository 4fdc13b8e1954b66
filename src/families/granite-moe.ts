// The family of Granite 3 MoE, 1B-A400M and 3B-A800M (model_type "granitemoe"): embedding, branches, attention and logits
// have a factor each; the largest logits choose, softmax over these weighs; experts lie stacked on disk. Agrees with
// modeling_granitemoe.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { type ExpertNames, routedFeedForward } from "../layers/experts/feed-forward.js";
import { topLogitsRouter } from "../layers/experts/router.js";
import { scaled } from "../layers/scaled.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, routedEverywhere } from "./geometry.js";

const moe = (released: string, stacked: string) => ({
  "per-expert": `block_sparse_moe.${released}.weight`,
  fused: `block_sparse_moe.${stacked}`,
});

const NAMES: ExpertNames = {
  router: moe("router.layer", "router.weight"),
  gateUp: moe("input_linear", "experts.gate_up_proj"),
  down: moe("output_linear", "experts.down_proj"),
};

export const graniteMoe: Family = {
  modelType: "granitemoe",
  classes: causalClasses("GraniteMoe"),
  expertsKeyIn4: "num_local_experts",
  read: (read) => {
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-6,
      theta: 10_000,
      maxPositions: 2048,
      expertsPerToken: 2,
    });
    routedEverywhere(read, geometry);
    const attention = {
      ...headsOf(geometry),
      bias: read.boolean("attention_bias", false) ? "all" : "none",
      queryKeyNorm: "none",
      clip: null,
      window: null,
      scale: read.positive("attention_multiplier", 1),
    } as const;
    const expertWidth = geometry.denseWidth;
    const experts = { ...expertsOf(geometry), expertWidth, router: topLogitsRouter, names: NAMES };
    const factor = read.positive("residual_multiplier", 1);
    return decoder(read, {
      geometry,
      expertWidth,
      scales: {
        embedding: read.positive("embedding_multiplier", 1),
        logits: 1 / read.positive("logits_scaling", 1),
        softCap: null,
      },
      branches: (layer) => ({
        attention: scaled(groupedQueryAttention(layer, attention), factor),
        feedForward: scaled(routedFeedForward(layer, experts), factor),
      }),
    });
  },
};
