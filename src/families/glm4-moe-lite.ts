// The family of GLM-4.7-Flash (model_type "glm4_moe_lite"): as deepseek_v3, with widths of its own; which layers are dense is a list.
// Agrees with modeling_glm4_moe_lite.py of transformers.
import type { ConfigReader } from "./config-reader.js";
import { causalClasses, type Family } from "./family.js";
import { readSigmoidRouter } from "./parts/grouped-router.js";
import { latentDecoder, readLatent } from "./parts/latent.js";

export const glm4MoeLite: Family = {
  modelType: "glm4_moe_lite",
  classes: causalClasses("Glm4MoeLite"),
  read: (read) => {
    const parts = readLatent(read, {
      queryRank: 768,
      plainWidth: 192,
      valueWidth: 256,
      normEpsilon: 1e-5,
      maxPositions: 202_752,
      expertsPerToken: 4,
    });
    const dense = denseLayers(read, parts.geometry.numLayers);
    const router = readSigmoidRouter(read, parts.geometry, { factor: 1.8 });
    return latentDecoder(read, parts, { router, corrected: true, isDense: (layer) => dense[layer], shared: 1 });
  },
};

/** By a list of transformers 5; without it, the first one alone is dense, as its class has it. */
function denseLayers(read: ConfigReader, numLayers: number): boolean[] {
  const types = read.source.mlp_layer_types ?? null;
  if (types === null) {
    read.only("first_k_dense_replace", [1]);
    return Array.from({ length: numLayers }, (_, layer) => layer === 0);
  }
  const fits =
    Array.isArray(types) && types.length === numLayers && types.every((type) => type === "dense" || type === "sparse");
  if (!fits) read.fail("mlp_layer_types", `"dense" or "sparse" for each of ${numLayers} layers`);
  return (types as string[]).map((type) => type === "dense");
}
