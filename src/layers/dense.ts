// The gated linear unit, and the feed-forward branch that is one: down(silu(gate x) * (up x)).
import { cast } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, type Tensor } from "../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../model/architecture.js";
import { gated } from "./gated.js";
import { type NormForm, normSpec, rmsNorm } from "./norm.js";

/** Name of the norm before a feed-forward layer. */
export const FEED_FORWARD_NORM = "post_attention_layernorm.weight";

export interface Dense {
  hiddenSize: number;
  /** Inner width. */
  width: number;
  normEpsilon: number;
  /** Form of its norm; "n rounded" by default. */
  normForm?: NormForm;
}

/** Parameters of a gated unit under `prefix`. */
export function unitParameters(prefix: string, D: number, width: number): ParameterSpec[] {
  const matrix = (name: string, ...shape: number[]): ParameterSpec => ({
    name: `${prefix}.${name}_proj.weight`,
    shape,
    init: "normal",
  });
  return [matrix("gate", width, D), matrix("up", width, D), matrix("down", D, width)];
}

/** down(silu(gate x) * (up x)) with the weights under `prefix`. */
export function unit(weights: Weights, prefix: string, x_ND: Tensor): Tensor {
  return scope(() => {
    const inner_NF = scope(() =>
      gated("silu", weights.linear(`${prefix}.gate_proj`, x_ND), weights.linear(`${prefix}.up_proj`, x_ND)),
    );
    return weights.linear(`${prefix}.down_proj`, inner_NF);
  });
}

/** x_TD -> unit(norm(x)) in the dtype of x. */
export const denseFeedForward = (settings: Dense): Branch => ({
  kind: "dense",
  settings,
  parameters: [
    normSpec(FEED_FORWARD_NORM, settings.hiddenSize, settings.normForm),
    ...unitParameters("mlp", settings.hiddenSize, settings.width),
  ],
  evaluate: (weights, x_TD, { computeDtype }) => {
    const { normEpsilon, normForm } = settings;
    const h_TD = rmsNorm(x_TD, weights.get(FEED_FORWARD_NORM), normEpsilon, computeDtype, normForm);
    return cast(unit(weights, "mlp", h_TD), dtype(x_TD));
  },
});
