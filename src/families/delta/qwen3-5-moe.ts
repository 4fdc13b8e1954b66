// The family of Qwen3.5-35B-A3B, its larger ones and Qwen3.6 (model_type "qwen3_5_moe"), see decoder.ts: every layer routes, gates are
// shares. Released checkpoints see and read: sizes are under `text_config`, the text's tensors under `model.language_model`; the tower and
// the layers that predict further tokens pass through. A text alone (model_type "qwen3_5_moe_text") is what transformers saves of
// its class for text. Agrees with modeling_qwen3_5_moe.py of transformers on texts.
import { plainProjections } from "../../layers/attention/delta-projections.js";
import { softmaxRouter } from "../../layers/experts/router.js";
import { ConfigReader } from "../config-reader.js";
import { decoder, type DecoderParts } from "../decoder.js";
import type { Family } from "../family.js";
import { routedEverywhere } from "../geometry.js";
import { readDeltaDecoder } from "./decoder.js";

const PASS_THROUGH = /^(model\.visual|mtp)\./;

export const qwen35MoeText: Family = {
  modelType: "qwen3_5_moe_text",
  classes: { config: "Qwen3_5MoeTextConfig", model: "Qwen3_5MoeForCausalLM" },
  read: (read) => decoder(read, { ...readText(read), passThrough: PASS_THROUGH }),
};

export const qwen35Moe: Family = {
  modelType: "qwen3_5_moe",
  classes: { config: "Qwen3_5MoeConfig", model: "Qwen3_5MoeForConditionalGeneration" },
  read: (read) => {
    const { text_config: text } = read.source;
    if (typeof text !== "object" || text === null || Array.isArray(text)) read.fail("text_config", "an object");
    const parts = readText(new ConfigReader(text as Record<string, unknown>, `${read.where}: text_config`));
    const { tieEmbeddings } = parts.geometry;
    if (read.boolean("tie_word_embeddings", false) !== tieEmbeddings)
      read.fail("tie_word_embeddings", `${tieEmbeddings} as in text_config`);
    return decoder(read, { ...parts, prefix: "model.language_model.", passThrough: PASS_THROUGH });
  },
};

function readText(read: ConfigReader): DecoderParts {
  read.only("attn_output_gate", [true]);
  read.only("output_gate_type", ["swish", "silu"]);
  if (read.integers("mlp_only_layers").length > 0) read.fail("mlp_only_layers", "an empty list");
  return readDeltaDecoder(read, {
    expertsPerToken: 8,
    projections: plainProjections,
    router: softmaxRouter(true),
    routed: (geometry) => {
      routedEverywhere(read, geometry);
      return Array.from({ length: geometry.numLayers }, () => true);
    },
  });
}
