// Which parameters the setting `freeze` names, by their names in a checkpoint.
import { diskTensors, fullName, nameOnDisk } from "../checkpoint/layout.js";
import { UserError } from "../errors.js";
import { type Model, type PlacedParameter, placedParameters, placedWeights, type Trains } from "../model/model.js";

type Shape = Pick<Model, "architecture">;

/**
 * Returns whether a parameter is frozen. Errors: UserError if a pattern names a part of a tensor that can only be
 * trained as one.
 */
export function frozenBy(patterns: readonly string[], { architecture }: Shape): Trains {
  if (patterns.length === 0) return () => false;
  const placed = placedParameters(architecture);
  const frozen = new Set(patterns.flatMap((pattern) => matching(pattern, placed)).map(keyOf));
  return (layer, name) => frozen.has(`${layer} ${name}`);
}

/** Errors: UserError for a pattern that names nothing in this model, and for patterns that leave nothing to train. */
export function checkFrozen(patterns: readonly string[], model: Shape): void {
  const placed = placedParameters(model.architecture);
  const weights = placedWeights(model.architecture);
  const idle = patterns.find((pattern) => matching(pattern, placed).length === 0);
  if (idle !== undefined) {
    const some = placed.slice(0, 3).map(fullName).join(", ");
    throw new UserError(
      `freeze: ${idle} names no parameter of this model (expected names such as ${some}, with * for anything). Mend the name.`,
    );
  }
  const isFrozen = frozenBy(patterns, model);
  if (weights.every(({ layer, spec }) => isFrozen(layer, spec.name)))
    throw new UserError(`freeze: ${patterns.join(",")} leaves no parameter to train. Freeze fewer.`);
}

const keyOf = ({ layer, spec }: PlacedParameter): string => `${layer} ${spec.name}`;

function matching(pattern: string, placed: PlacedParameter[]): PlacedParameter[] {
  const parts = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const names = new RegExp(`^${parts.join(".*")}$`);
  return placed.filter((each) => {
    const known = [fullName(each), nameOnDisk(each, "per-expert"), nameOnDisk(each, "fused")];
    if (known.some((name) => names.test(name))) return true;
    const pieces = diskTensors(each, "per-expert").filter(({ slice }) => slice !== null);
    const named = pieces.filter(({ name }) => names.test(name)).length;
    if (named > 0 && named < pieces.length) {
      throw new UserError(
        `freeze: ${pattern} names ${named} of the ${pieces.length} matrices of ${fullName(each)}, which are trained as one. Name all of them, or none.`,
      );
    }
    return named > 0;
  });
}
