// What a micro-batch carries through every block: document lengths, rotary tables, the routing of its tokens, and, when
// generating, the keys and values of what came before. Its tensors belong to whoever made the context.
import { cast, cat, cos, mulScalar, outer, sin } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { fromArray, type DType, type Tensor } from "../torch/tensor.js";
import type { ModelConfig } from "./architecture.js";
import type { KeyValueCache } from "./attention/attend.js";
import { rotaryFrequencies } from "./rope.js";
import type { RouterObserver, Routing } from "./routing.js";

export interface Context {
  config: ModelConfig;
  /** Document lengths in order; attention stays inside a document. */
  segments: number[];
  cos_TC: Tensor;
  sin_TC: Tensor;
  computeDtype: DType;
  routing: Routing;
  cache?: KeyValueCache;
  /** In training alone: what looks at the router's logits, and noise on the input of a layer with experts.
   * A tile are the rows from `first` on, of so many tokens in all. */
  routerObserver?: RouterObserver;
  jitter?: (h_ND: Tensor, layer: number, tile?: { first: number; tokens: number }) => Tensor;
}

/**
 * Rotary tables are computed in float32 and rounded once, as transformers does. The caller frees cos_TC and sin_TC.
 * `length` counts the positions of the whole text where these are a part of it; else it is that of the longest document.
 */
export function makeContext(
  config: ModelConfig,
  positions_T: ArrayLike<number>,
  segments: number[],
  options: { computeDtype: DType; device: string; routing: Routing; cache?: KeyValueCache; length?: number },
): Context {
  const { computeDtype, device, routing, cache } = options;
  const length = options.length ?? segments.reduce((most, own) => Math.max(most, own), 0);
  const tables = scope(() => {
    const half = config.headDim / 2;
    const { frequencies, scale } = rotaryFrequencies(config.rope, config.headDim, length);
    const angleDtype = computeDtype === "float64" ? "float64" : "float32";
    const angles_TH = outer(
      fromArray(positions_T, [positions_T.length], angleDtype, device),
      fromArray(frequencies, [half], angleDtype, device),
    );
    const angles_TC = cat([angles_TH, angles_TH], 1);
    return [cos(angles_TC), sin(angles_TC)].map((table_TC) => cast(mulScalar(table_TC, scale), computeDtype));
  });
  return { config, segments, cos_TC: tables[0], sin_TC: tables[1], computeDtype, routing, cache };
}
