// The family of DeepSeek-V3, R1 and V3.1 (model_type "deepseek_v3"), also Moonlight and Kimi-K2: latent attention; sigmoid scores, of which
// the largest are chosen with a correction and in groups; shared experts; the first layers dense. Agrees with
// modeling_deepseek_v3.py of transformers.
import { sigmoidRouter } from "../layers/experts/router.js";
import type { Architecture } from "../model/architecture.js";
import type { ConfigReader } from "./config-reader.js";
import type { Family } from "./family.js";
import type { Geometry } from "./geometry.js";
import { latentDecoder, type LatentParts, readGroups, readLatent } from "./latent.js";

export const deepseekV3: Family = {
  modelType: "deepseek_v3",
  read: (read) => {
    const parts = readLatent(read, {
      queryRank: 1536,
      plainWidth: 128,
      valueWidth: 128,
      normEpsilon: 1e-6,
      maxPositions: 4096,
      expertsPerToken: 8,
    });
    const dense = read.integer("first_k_dense_replace", 3, 0);
    return sigmoidExperts(read, parts, {
      groups: { count: 8, kept: 4 },
      factor: 2.5,
      isDense: (layer) => layer < dense,
    });
  },
};

/** The architecture of a file whose router is that of DeepSeek-V3; `defaults` are those of the class. */
export function sigmoidExperts(
  read: ConfigReader,
  parts: LatentParts,
  defaults: { groups: { count: number; kept: number }; factor: number; isDense(layer: number): boolean },
): Architecture {
  read.only("scoring_func", ["sigmoid"]);
  read.only("topk_method", ["noaux_tc"]);
  const groups = readGroups(read, parts.geometry, defaults.groups);
  checkPairs(read, parts.geometry, groups);
  const router = sigmoidRouter(
    { ...groups, rank: "best two" },
    read.boolean("norm_topk_prob", true),
    read.positive("routed_scaling_factor", defaults.factor),
  );
  return latentDecoder(read, parts, { router, corrected: true, isDense: defaults.isDense, shared: 1 });
}

/** A group is as good as its best two. */
function checkPairs(read: ConfigReader, { numExperts }: Geometry, { count }: { count: number }): void {
  if (numExperts / count < 2) read.fail("n_group", `groups of at least two of ${numExperts} experts`);
}
