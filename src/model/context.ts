// What a micro-batch carries through every block: document lengths, rotary tables, the routing of its tokens, and, when
// generating, the keys and values of what came before. Its tensors belong to whoever made the context.
import { cast, cat, cos, outer, sin } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { fromArray, type DType, type Tensor } from "../torch/tensor.js";
import type { ModelConfig } from "./architecture.js";
import type { KeyValueCache } from "./attention.js";
import type { Routing } from "./routing.js";

export interface Context {
  config: ModelConfig;
  /** Document lengths in order; attention stays inside a document. */
  segments: number[];
  cos_TC: Tensor;
  sin_TC: Tensor;
  computeDtype: DType;
  routing: Routing;
  cache?: KeyValueCache;
}

/** Rotary tables are computed in float32 and rounded once, as transformers does. The caller frees cos_TC and sin_TC. */
export function makeContext(
  config: ModelConfig,
  positions_T: ArrayLike<number>,
  segments: number[],
  options: { computeDtype: DType; device: string; routing: Routing; cache?: KeyValueCache },
): Context {
  const { computeDtype, device, routing, cache } = options;
  const tables = scope(() => {
    const half = config.headDim / 2;
    const frequencies = Array.from({ length: half }, (_, i) => Math.fround(1 / config.ropeTheta ** (i / half)));
    const angleDtype = computeDtype === "float64" ? "float64" : "float32";
    const angles_TH = outer(
      fromArray(positions_T, [positions_T.length], angleDtype, device),
      fromArray(frequencies, [half], angleDtype, device),
    );
    const angles_TC = cat([angles_TH, angles_TH], 1);
    return [cast(cos(angles_TC), computeDtype), cast(sin(angles_TC), computeDtype)];
  });
  return { config, segments, cos_TC: tables[0], sin_TC: tables[1], computeDtype, routing, cache };
}
