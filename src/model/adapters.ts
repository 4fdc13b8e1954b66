// Adapters that let branches of width D run on streams of width D/2 (RevFFN, arXiv 2512.20920): P_up [D, D/2] in front
// of a branch, P_down [D/2, D] behind it. The paper has a pair per layer. It does not say whether both streams share a
// pair, nor how adapters start; so settings do. The pretrained norms stay where they were, behind P_up.
import { cast, linear, normal_ } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype, fromArray, type Tensor, zeros } from "../torch/tensor.js";
import type { Architecture, Branch, Layer, ParameterSpec, Weights } from "./architecture.js";
import type { Context } from "./context.js";

export interface AdapterSettings {
  /** One pair per layer, or one per stream of it. */
  sharing: "layer" | "stream";
  /**
   * random: normal with variance 1 / inputs. identity: P_up puts a stream in its half of the hidden state and zero
   * elsewhere, P_down takes that half; with one pair per layer, it is the first half.
   */
  init: "random" | "identity";
  /** Numbers of blocks at both ends that stay ordinary and have no adapters. */
  ordinaryFirst?: number;
  ordinaryLast?: number;
}

const nameOf = (part: "up" | "down", stream: 1 | 2, sharing: AdapterSettings["sharing"]): string =>
  `adapters.${part}${sharing === "layer" ? "" : `_${stream}`}.weight`;

/**
 * The same architecture with adapters in each block that is not ordinary. In the order of parameters they come first.
 */
export function withAdapters(architecture: Architecture, settings: AdapterSettings): Architecture {
  const { sharing, init, ordinaryFirst = 0, ordinaryLast = 0 } = settings;
  const streams = sharing === "layer" ? ([1] as const) : ([1, 2] as const);
  const [D, half] = [architecture.hiddenSize, architecture.hiddenSize / 2];
  const adapters = streams.flatMap((stream): ParameterSpec[] => [
    { name: nameOf("up", stream, sharing), shape: [D, half], init: "normal", adapter: { init, stream } },
    { name: nameOf("down", stream, sharing), shape: [half, D], init: "normal", adapter: { init, stream } },
  ]);
  const last = architecture.layers.length - ordinaryLast;
  const layers = architecture.layers.map(
    (layer, i): Layer =>
      i < ordinaryFirst || i >= last ? layer : { ...layer, kind: `${layer.kind}, adapters`, adapters },
  );
  return { ...architecture, adapters: sharing, layers };
}

/** Makes an adapter; the caller owns it. */
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

/**
 * P_down branch(P_up x; keys and values from P_up memory), [T, D/2] in the dtype of x. x is stream `from`, memory
 * stream 2; the result is for stream `to`.
 */
export function bridged(
  branch: Branch,
  { from, to }: { from: 1 | 2; to: 1 | 2 },
  sharing: AdapterSettings["sharing"],
  weights: Weights,
  x_TH: Tensor,
  context: Context,
  memory_TH?: Tensor,
): Tensor {
  const up = (of: 1 | 2, h_TH: Tensor): Tensor =>
    linear(cast(h_TH, context.computeDtype), weights.get(nameOf("up", of, sharing)));
  const x_TD = up(from, x_TH);
  const y_TD = branch.evaluate(weights, x_TD, context, memory_TH && up(2, memory_TH));
  return cast(linear(cast(y_TD, context.computeDtype), weights.get(nameOf("down", to, sharing))), dtype(x_TH));
}
