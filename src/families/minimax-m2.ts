// The family of MiniMax-M2 (model_type "minimax_m2"): sigmoids weigh and choose, the choice with a correction, gates of the
// chosen always rescaled to sum to one; RMSNorm over the whole query and key vectors; a part of a head's features turns; every layer
// sparse. On disk its routed layer is called as Mixtral's. Agrees with modeling_minimax_m2.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { type ExpertNames, routedFeedForward } from "../layers/experts/feed-forward.js";
import { chosenShares, correctedChoice, sigmoids } from "../layers/experts/router.js";
import { MOST, type ConfigReader } from "./config-reader.js";
import { decoder, predictionLayers } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, routedEverywhere } from "./geometry.js";

const NAMES: ExpertNames = {
  router: { "per-expert": "block_sparse_moe.gate.weight" },
  correction: { "per-expert": "block_sparse_moe.e_score_correction_bias", fused: "mlp.e_score_correction_bias" },
  each: { template: "block_sparse_moe.experts.{expert}.{part}.weight", gate: "w1", up: "w3", down: "w2" },
};

export const minimaxM2: Family = {
  modelType: "minimax_m2",
  classes: causalClasses("MiniMaxM2"),
  expertsKeyIn4: "num_local_experts",
  read: (read) => {
    read.only("use_qk_norm", [true]);
    read.only("qk_norm_type", ["per_layer"]);
    read.only("scoring_func", ["sigmoid"]);
    read.only("use_routing_bias", [true]);
    read.only("shared_intermediate_size", [0]);
    onlyFullAttention(read);
    const geometry = readGeometry(read, {
      keyValueHeads: null,
      headDim: 128,
      normEpsilon: 1e-6,
      theta: 5_000_000,
      maxPositions: 196_608,
      expertsPerToken: 8,
      partialRotary: 1,
      turningKey: "rotary_dim",
    });
    routedEverywhere(read, geometry);
    const attention = {
      ...headsOf(geometry),
      bias: "none",
      queryKeyNorm: "whole",
      clip: null,
      window: null,
    } as const;
    const expertWidth = geometry.denseWidth;
    const experts = {
      ...expertsOf(geometry),
      expertWidth,
      router: { scores: sigmoids, choice: correctedChoice, gates: chosenShares },
      correction: [geometry.numExperts],
      names: NAMES,
    };
    return decoder(read, {
      geometry,
      expertWidth,
      passThrough: predictionLayers(geometry, read.integer("num_mtp_modules", 0, 0, MOST.layers)),
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routedFeedForward(layer, experts),
      }),
    });
  },
};

/** Earlier models of these authors have layers of another attention, which are 0 in this list. */
function onlyFullAttention(read: ConfigReader): void {
  const types = read.integers("attn_type_list");
  if (types.some((type) => type !== 1))
    read.fail("attn_type_list", "1 for every layer; other values are not supported");
}
