// What ranks send one another in a step, counted from the parameters: it does not depend on tokens or on how many micro-batches a step has, but for rows
// that go to experts. All parameters are taken as trained. What ranks that hold micro-batches together exchange is counted by a planned step.
import { elementsOf } from "../optim/optimizer.js";
import { STORES } from "../store/registry.js";
import { EMBEDDING, HEAD, partOf } from "../store/store.js";
import { isExpertMatrix } from "../model/expert-rows.js";
import { tokensOf } from "../train/ranks/expert-sharing.js";
import { placedParameters, storedDtype } from "../model/model.js";
import { DTYPES } from "../torch/tensor.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { type Geometry, plannedShares } from "./shadow-step.js";

const GRADIENT_BYTES = DTYPES.float32;
const NORM_BYTES = DTYPES.float64;

/** Bytes of tensors that so many ranks send in a step, all together; `tokens` of each of them. */
export function stepTraffic(
  settings: TrainSettings,
  geometry: Geometry,
  world: number,
  tokens = tokensOf(settings),
): number {
  if (world === 1) return 0;
  const { architecture, dtypeOf } = geometry;
  const others = world - 1;
  const placedAll = placedParameters(architecture);
  const isTied = architecture.outer.head === null;
  const isShared = STORES[settings.parameters].shared;
  const shared = isShared ? plannedShares(settings, geometry, world) : null;
  const { shares = null, experts = null } = shared ?? {};
  const isOrdered = settings.rank_sums === "ordered" && !experts?.stay;
  let [forward, backward, summed, applied] = [0, 0, 0, 0];
  for (const placed of placedAll) {
    const { spec, prefix } = placed;
    if (experts?.stay && isExpertMatrix(spec)) continue;
    const elements = elementsOf(spec.shape);
    const weight = isShared ? others * elements * DTYPES[storedDtype(placed, dtypeOf(placed))] : 0;
    const part = partOf(architecture, placed);
    const isBoth = isTied && part === EMBEDDING;
    if (part !== HEAD) forward += weight;
    backward += isBoth ? 2 * weight : weight;
    if (spec.buffer) continue;
    // In order from rank to rank, and of a tensor of both ends once around before that; else each rank's to where rows are summed.
    summed += GRADIENT_BYTES * elements * (isBoth && isOrdered ? others + world : others);
    const rowsOfLast = shares?.get(prefix + spec.name)?.[others].count ?? 0;
    const away = shares === null ? others : isOrdered ? 1 - rowsOfLast / spec.shape[0] : 0;
    applied += GRADIENT_BYTES * elements * away;
  }
  // The last rank's in order; else every rank's.
  const norms = NORM_BYTES * others * (isOrdered ? 1 : world) * (architecture.layers.length + 2);
  const passes = settings.max_grad_norm > 0 ? 2 : 1;
  const rows = experts?.stay ? experts.rowBytes * tokens * others : 0;
  return forward + passes * (backward + summed + norms) + applied + rows;
}
