// Adapters that let branches of width D run on streams of width D/2 (RevFFN, arXiv 2512.20920): P_up [D, D/2] in front of
// a branch, P_down [D/2, D] behind it. The paper has a pair per layer; whether both streams share it, and how it starts,
// it leaves open. The pretrained norms stay where they were, behind P_up.
import { cast, linear, normal_ } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype, fromArray, type Tensor, zeros } from "../torch/tensor.js";
import type { Architecture, ParameterSpec, Weights } from "./architecture.js";
import type { Context } from "./context.js";

export interface AdapterSettings {
  /** One pair per layer, or one per stream of it. */
  sharing: "layer" | "stream";
  /**
   * random: normal with variance 1 / inputs. identity: P_up puts a stream where its half of the hidden state was and zero
   * elsewhere, P_down takes that half; with one pair per layer, the first half.
   */
  init: "random" | "identity";
  /** Blocks at either end that stay ordinary and have none. */
  ordinaryFirst?: number;
  ordinaryLast?: number;
}

const nameOf = (part: "up" | "down", stream: 1 | 2, sharing: AdapterSettings["sharing"]): string =>
  `adapters.${part}${sharing === "layer" ? "" : `_${stream}`}.weight`;

/** The same family with adapters among the parameters of each block that is not ordinary; they are first in the order of the forward pass. */
export function withAdapters(architecture: Architecture, settings: AdapterSettings): Architecture {
  const { sharing, init, ordinaryFirst = 0, ordinaryLast = 0 } = settings;
  const streams = sharing === "layer" ? ([1] as const) : ([1, 2] as const);
  return {
    ...architecture,
    adapters: sharing,
    blockParameters: (config, layer) => {
      if (layer < ordinaryFirst || layer >= config.numLayers - ordinaryLast)
        return architecture.blockParameters(config, layer);
      const [D, half] = [config.hiddenSize, config.hiddenSize / 2];
      const own = streams.flatMap((stream): ParameterSpec[] => [
        { name: nameOf("up", stream, sharing), shape: [D, half], init: "normal", adapter: { init, stream } },
        { name: nameOf("down", stream, sharing), shape: [half, D], init: "normal", adapter: { init, stream } },
      ]);
      return [...own, ...architecture.blockParameters(config, layer)];
    },
  };
}

/** A new adapter; the caller owns it. */
export function makeAdapter(
  { name, shape, adapter }: ParameterSpec,
  seed: number[],
  type: DType,
  device: string,
): Tensor {
  const [rows, columns] = shape;
  return scope(() => {
    if (adapter?.init === "identity") {
      const offset = adapter.stream === 2 ? Math.min(rows, columns) : 0;
      const values = new Float32Array(rows * columns);
      for (let i = 0; i < Math.min(rows, columns); i++)
        values[name.includes(".up") ? (i + offset) * columns + i : i * columns + i + offset] = 1;
      return fromArray(values, shape, type, device);
    }
    setSeed(seedFor(...seed));
    return normal_(zeros(shape, type, device), 0, columns ** -0.5);
  });
}

/** P_down attention(P_up x; keys and values from P_up memory), [T, D/2] in the dtype of x. */
export function bridgedAttention(
  architecture: Architecture,
  weights: Weights,
  x_TH: Tensor,
  memory_TH: Tensor,
  layer: number,
  context: Context,
): Tensor {
  const bridge = bridgeOf(architecture, weights, context);
  return bridge.down(
    1,
    architecture.attention(weights, bridge.up(1, x_TH), layer, context, bridge.up(2, memory_TH)),
    x_TH,
  );
}

/** P_down feed_forward(P_up x), [T, D/2] in the dtype of x. */
export function bridgedFeedForward(
  architecture: Architecture,
  weights: Weights,
  x_TH: Tensor,
  layer: number,
  context: Context,
): Tensor {
  const bridge = bridgeOf(architecture, weights, context);
  return bridge.down(2, architecture.feedForward(weights, bridge.up(1, x_TH), layer, context), x_TH);
}

function bridgeOf({ adapters: sharing = "layer" }: Architecture, weights: Weights, { computeDtype }: Context) {
  return {
    up: (stream: 1 | 2, x_TH: Tensor): Tensor =>
      linear(cast(x_TH, computeDtype), weights.get(nameOf("up", stream, sharing))),
    down: (stream: 1 | 2, y_TD: Tensor, like: Tensor): Tensor =>
      cast(linear(cast(y_TD, computeDtype), weights.get(nameOf("down", stream, sharing))), dtype(like)),
  };
}
