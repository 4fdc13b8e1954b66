// The family of DeepSeek-V3, R1 and V3.1 (model_type "deepseek_v3"), also Moonlight: latent attention; sigmoid scores, of which
// the largest are chosen with a correction and in groups; shared experts; the first layers dense. Agrees with
// modeling_deepseek_v3.py of transformers.
import { causalClasses, type Family } from "./family.js";
import { readSigmoidRouter } from "./parts/grouped-router.js";
import { latentDecoder, readLatent } from "./parts/latent.js";

export const deepseekV3: Family = {
  modelType: "deepseek_v3",
  classes: causalClasses("DeepseekV3"),
  read: (read) => {
    const parts = readLatent(read, {
      queryRank: 1536,
      plainWidth: 128,
      valueWidth: 128,
      normEpsilon: 1e-6,
      maxPositions: 4096,
      expertsPerToken: 8,
    });
    const router = readSigmoidRouter(read, parts.geometry, { factor: 2.5, groups: { count: 8, kept: 4 } });
    const dense = read.integer("first_k_dense_replace", 3, 0);
    return latentDecoder(read, parts, { router, corrected: true, isDense: (layer) => layer < dense, shared: 1 });
  },
};
