// The keys by which DeepSeek-V3 and its kin say how tokens choose experts. A key may be absent where the family's class in
// transformers has a default.
import { type Groups, sigmoidRouter, type Router } from "../../layers/experts/router.js";
import type { ConfigReader } from "../config-reader.js";
import type { Geometry } from "../geometry.js";

const ONE_GROUP = { count: 1, kept: 1 };

/** Groups of experts by `n_group` and `topk_group`. */
export function readGroups(read: ConfigReader, geometry: Geometry, rank: Groups["rank"], usual = ONE_GROUP): Groups {
  const { numExperts, expertsPerToken } = geometry;
  const count = read.integer("n_group", usual.count);
  const size = numExperts / count;
  if (!Number.isInteger(size)) read.fail("n_group", `a divisor of the number of experts, ${numExperts}`);
  if (count > 1 && rank === "best two" && size < 2)
    read.fail("n_group", `groups of at least two of ${numExperts} experts`);
  const kept = read.integer("topk_group", usual.kept, 1, count);
  if (kept * size < expertsPerToken)
    read.fail("topk_group", `groups that have ${expertsPerToken} experts, as many as a token chooses`);
  return { count, kept, rank };
}

interface SigmoidDefaults {
  factor: number;
  groups?: { count: number; kept: number };
  /** Whether gates are shares of what was chosen; true unless said otherwise. */
  shares?: boolean;
}

/** Sigmoids, corrected where the choice is made. */
export function readSigmoidRouter(
  read: ConfigReader,
  geometry: Geometry,
  { factor, groups, shares = true }: SigmoidDefaults,
): Router {
  read.only("scoring_func", ["sigmoid"]);
  read.only("topk_method", ["noaux_tc"]);
  return sigmoidRouter(
    readGroups(read, geometry, "best two", groups),
    read.boolean("norm_topk_prob", shares),
    read.positive("routed_scaling_factor", factor),
  );
}
