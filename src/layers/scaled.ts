// A branch times a factor, for families that scale what is added to the residual stream.
import { mulScalar } from "../torch/ops.js";
import type { Branch } from "../model/architecture.js";

/** factor * branch(x); the branch itself where the factor is 1. */
export const scaled = (branch: Branch, factor: number): Branch =>
  factor === 1
    ? branch
    : { ...branch, evaluate: (weights, ...input) => mulScalar(branch.evaluate(weights, ...input), factor) };
