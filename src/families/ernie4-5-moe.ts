// The family of ERNIE-4.5-21B-A3B and 300B-A47B (model_type "ernie4_5_moe"): softmax over all experts weighs, and with a
// correction chooses; shared experts as one unit, added as it is; dense layers in front, behind and between by three keys;
// neighbours of a head turn, in float32. Agrees with modeling_ernie4_5_moe.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { denseFeedForward } from "../layers/dense.js";
import { type ExpertNames, routedFeedForward, USUAL_NAMES } from "../layers/experts/feed-forward.js";
import { correctedChoice, probabilities, type Router, sharesOfAtLeast } from "../layers/experts/router.js";
import { type ConfigReader, MOST } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { denseOf, expertsOf, type Geometry, headsOf, readGeometry, sharedWidth } from "./geometry.js";

const STATISTICS = "moe_statics.e_score_correction_bias";
const NAMES: ExpertNames = {
  ...USUAL_NAMES,
  correction: { "per-expert": `mlp.${STATISTICS}`, fused: `mlp.gate.${STATISTICS}` },
};

export const ernie45Moe: Family = {
  modelType: "ernie4_5_moe",
  classes: causalClasses("Ernie4_5_Moe"),
  read: (read) => {
    read.only("use_bias", [false]);
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-5,
      theta: 500_000,
      maxPositions: 131_072,
      expertsPerToken: 6,
      expertsKey: "moe_num_experts",
      perTokenKey: "moe_k",
      tieEmbeddings: true,
    });
    const attention = { ...headsOf(geometry), bias: "none", queryKeyNorm: "none", clip: null, window: null } as const;
    const expertWidth = read.integer("moe_intermediate_size", undefined, 1, MOST.width);
    const router: Router = {
      scores: probabilities,
      choice: correctedChoice,
      gates: sharesOfAtLeast(read.positive("moe_norm_min", 1e-12)),
    };
    const experts = {
      ...expertsOf(geometry),
      expertWidth,
      router,
      wideRouter: true,
      correction: [1, geometry.numExperts],
      sharedWidth: sharedWidth(read, "moe_num_shared_experts", expertWidth, 0, 2),
      sharedGate: false,
      names: NAMES,
    };
    const routed = routedLayers(read, geometry);
    return decoder(read, {
      geometry,
      expertWidth,
      rotary: [{ ...geometry.rope, neighbours: true, wide: true }],
      passThrough: /(^|\.)mtp/,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, attention),
        feedForward: routed[layer] ? routedFeedForward(layer, experts) : denseFeedForward(denseOf(geometry)),
      }),
    });
  },
};

function routedLayers(read: ConfigReader, { numLayers, numExperts }: Geometry): boolean[] {
  const interval = read.integer("moe_layer_interval", 1);
  const start = read.integer("moe_layer_start_index", 1, 0);
  const end = read.integer("moe_layer_end_index", -1, -1);
  const last = end === -1 ? numLayers - 1 : end;
  return Array.from(
    { length: numLayers },
    (_, layer) => numExperts > 0 && (layer + 1) % interval === 0 && layer >= start && layer <= last,
  );
}
