// What families with latent attention have in common: DeepSeek-V2 and -V3, and whatever was made after them. Their widths, the
// first layers that are dense, experts with ungated shared ones, and layers behind the last that predict further tokens.
import { type LatentAttention, latentAttention } from "../../layers/attention/latent.js";
import { denseFeedForward } from "../../layers/dense.js";
import { routedFeedForward, USUAL_NAMES } from "../../layers/experts/feed-forward.js";
import type { Router } from "../../layers/experts/router.js";
import type { Architecture } from "../../model/architecture.js";
import type { Rotary } from "../../model/rotary.js";
import { ConfigReader, MOST } from "../config-reader.js";
import { decoder, predictionLayers } from "../decoder.js";
import { denseOf, expertsOf, type Geometry, readGeometry, sharedWidth } from "../geometry.js";
import { readScoreFactor } from "./rope.js";

/** What the class of a family has where a file says nothing. */
export interface LatentDefaults {
  queryRank: number;
  /** Of each head: features of queries and keys that do not turn, and values. */
  plainWidth: number;
  valueWidth: number;
  normEpsilon: number;
  maxPositions: number;
  expertsPerToken: number;
}

export interface LatentParts {
  geometry: Geometry;
  attention: LatentAttention;
  rotary: Rotary;
}

/** Sizes and attention of a config.json. */
export function readLatent(read: ConfigReader, defaults: LatentDefaults): LatentParts {
  const turningWidth = read.integer("qk_rope_head_dim", 64, 2, MOST.headWidth);
  if (turningWidth % 2 !== 0) read.fail("qk_rope_head_dim", "an even number");
  const plainWidth = read.integer("qk_nope_head_dim", defaults.plainWidth, 1, MOST.headWidth);
  const valueWidth = read.integer("v_head_dim", defaults.valueWidth, 1, MOST.headWidth);
  // What files call head_dim is the width of what turns, or that of nothing; all heads have keys of their own.
  const { head_dim: _width, num_key_value_heads: _heads, ...rest } = read.source;
  const geometry = readGeometry(new ConfigReader({ ...rest, head_dim: turningWidth }, read.where), {
    ...defaults,
    keyValueHeads: "as many as heads",
    theta: 10_000,
    expertsKey: read.holds("n_routed_experts") ? "n_routed_experts" : undefined,
  });
  const { hiddenSize, numHeads, normEpsilon, rope } = geometry;
  const width = plainWidth + turningWidth;
  return {
    geometry: { ...geometry, headDim: Math.max(width, valueWidth) },
    attention: {
      ...{ hiddenSize, numHeads, normEpsilon, plainWidth, turningWidth, valueWidth },
      // Null is no latent; only a key that is not there has a default.
      queryRank:
        read.source.q_lora_rank === null ? null : read.integer("q_lora_rank", defaults.queryRank, 1, MOST.width),
      keyValueRank: read.integer("kv_lora_rank", 512, 1, MOST.width),
      bias: read.boolean("attention_bias", false),
      rotary: 0,
      scale: width ** -0.5 * readScoreFactor(read, rope),
    },
    rotary: { ...rope, ...(read.boolean("rope_interleave", true) && { neighbours: true }) },
  };
}

export interface LatentExperts {
  router: Router;
  /** Whether a number for each expert is added where the choice is made. */
  corrected: boolean;
  /** Layers that do not route, by their number. */
  isDense(layer: number): boolean;
  /** How many experts of one width the shared one is as wide as, where a file does not say it. */
  shared: number;
}

/** The architecture of these parts. */
export function latentDecoder(
  read: ConfigReader,
  { geometry, attention, rotary }: LatentParts,
  { router, corrected, isDense, shared }: LatentExperts,
): Architecture {
  read.only("moe_layer_freq", [1]);
  const expertWidth = read.integer("moe_intermediate_size", undefined, 1, MOST.width);
  const experts = {
    ...expertsOf(geometry),
    ...{ expertWidth, router, wideRouter: true, sharedGate: false, names: USUAL_NAMES },
    sharedWidth: sharedWidth(read, "n_shared_experts", expertWidth, 0, shared),
    correction: corrected ? [geometry.numExperts] : undefined,
  };
  return decoder(read, {
    ...{ geometry, expertWidth, rotary: [rotary] },
    passThrough: predictionLayers(geometry, read.integer("num_nextn_predict_layers", 1, 0, MOST.layers)),
    branches: (layer) => ({
      attention: latentAttention(layer, attention),
      feedForward: isDense(layer) ? denseFeedForward(denseOf(geometry)) : routedFeedForward(layer, experts),
    }),
  });
}
