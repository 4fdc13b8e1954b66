// The family of DeepSeek-V2, V2-Lite and Coder-V2 (model_type "deepseek_v2"): as deepseek_v3, with probabilities of all experts as
// scores, which are gates as they are, times a factor; groups, where a file has them, are as good as their best expert. Agrees with
// modeling_deepseek_v2.py of transformers.
import { chosenScores, groupedChoice, probabilities, scaledGates } from "../layers/experts/router.js";
import { causalClasses, type Family } from "./family.js";
import { readGroups } from "./parts/grouped-router.js";
import { latentDecoder, readLatent } from "./parts/latent.js";

export const deepseekV2: Family = {
  modelType: "deepseek_v2",
  classes: causalClasses("DeepseekV2"),
  read: (read) => {
    read.only("mlp_bias", [false]);
    read.only("scoring_func", ["softmax"]);
    read.only("topk_method", ["greedy", "group_limited_greedy"]);
    // transformers passes over this key; the model's own code, where it is true, scales otherwise.
    read.only("norm_topk_prob", [false]);
    read.only("rope_interleave", [true]);
    const parts = readLatent(read, {
      queryRank: 1536,
      plainWidth: 128,
      valueWidth: 128,
      normEpsilon: 1e-6,
      maxPositions: 2048,
      expertsPerToken: 6,
    });
    const grouped = read.source.topk_method === "group_limited_greedy";
    const router = {
      scores: probabilities,
      ...(grouped && { choice: groupedChoice(readGroups(read, parts.geometry, "best")) }),
      gates: scaledGates(chosenScores, read.positive("routed_scaling_factor", 1)),
    };
    const dense = read.integer("first_k_dense_replace", 0, 0);
    return latentDecoder(read, parts, { router, corrected: false, isDense: (layer) => layer < dense, shared: 2 });
  },
};
