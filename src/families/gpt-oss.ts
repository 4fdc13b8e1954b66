// The family of gpt-oss, 20b and 120b (model_type "gpt_oss"): layers with a window and without in turn, a sink for each head,
// biases everywhere; the largest logits choose, softmax over these weighs; experts with a clamped gate, stacked on disk with each
// matrix turned. Agrees with modeling_gpt_oss.py of transformers.
import { groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { type ExpertNames, routedFeedForward } from "../layers/experts/feed-forward.js";
import { topLogitsRouter } from "../layers/experts/router.js";
import { ConfigReader } from "./config-reader.js";
import { decoder } from "./decoder.js";
import { causalClasses, type Family } from "./family.js";
import { expertsOf, headsOf, readGeometry, routedEverywhere } from "./geometry.js";
import { readWindows } from "./parts/windows.js";

const both = (name: string) => ({ "per-expert": name, fused: name });

const NAMES: ExpertNames = {
  router: both("mlp.router.weight"),
  routerBias: both("mlp.router.bias"),
  turned: true,
};

/** Of its class, where a file has no such key. */
const DEFAULTS = { head_dim: 64, num_key_value_heads: 8, sliding_window: 128 };
const ROPE = {
  rope_type: "yarn",
  factor: 32,
  beta_fast: 32,
  beta_slow: 1,
  truncate: false,
  original_max_position_embeddings: 4096,
};

export const gptOss: Family = {
  modelType: "gpt_oss",
  classes: causalClasses("GptOss"),
  expertsKeyIn4: "num_local_experts",
  read: (file) => {
    const stretched = file.holds("rope_scaling") || file.holds("rope_parameters");
    const read = new ConfigReader(
      { ...DEFAULTS, ...file.source, ...(stretched ? {} : { rope_parameters: ROPE }) },
      file.where,
    );
    const geometry = readGeometry(read, {
      keyValueHeads: "as many as heads",
      normEpsilon: 1e-5,
      theta: 150_000,
      maxPositions: 131_072,
      expertsPerToken: 4,
    });
    routedEverywhere(read, geometry);
    read.only("experts_per_token", [geometry.expertsPerToken]);
    const normForm = "product rounded";
    const attention = {
      ...headsOf(geometry),
      normForm,
      bias: read.boolean("attention_bias", true) ? "all" : "none",
      queryKeyNorm: "none",
      clip: null,
      sinks: true,
    } as const;
    const expertWidth = geometry.denseWidth;
    const experts = {
      ...expertsOf(geometry),
      normForm,
      expertWidth,
      router: topLogitsRouter,
      bias: true,
      activation: {
        name: "clamped_swiglu",
        limit: read.positive("swiglu_limit", 7),
        alpha: read.positive("swiglu_alpha", 1.702),
      },
      names: NAMES,
    } as const;
    const windows = readWindows(read, geometry.numLayers, (layer) => layer % 2 === 0);
    return decoder(file, {
      geometry,
      normForm,
      expertWidth,
      branches: (layer) => ({
        attention: groupedQueryAttention(layer, { ...attention, window: windows[layer] }),
        feedForward: routedFeedForward(layer, experts),
      }),
    });
  },
};
