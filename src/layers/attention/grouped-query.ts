// The attention branch that most families share: norm, projections with or without biases, optional norm and clipping
// of queries and keys, rotary positions, grouped heads with an optional window and an optional gate on the result,
// output projection.
import { junction } from "../../torch/graph.js";
import { cast, clamp, narrow, reshape } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { dtype, shape, type Tensor } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context } from "../../model/context.js";
import { gated } from "../gated.js";
import { type NormForm, normSpec, rmsNorm } from "../norm.js";
import { rotate } from "../rotate.js";
import { attendIn } from "./spread.js";

export interface GroupedQuery {
  hiddenSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  normEpsilon: number;
  /** Form of its norms; "n rounded" by default. */
  normForm?: NormForm;
  /** Which projections have a bias: none, all, or query, key and value. */
  bias: "none" | "qkv" | "all";
  /** What the RMSNorm of queries and keys runs over: nothing, each head, or all heads as one vector. */
  queryKeyNorm: "none" | "head" | "whole";
  /** Largest absolute value of queries, keys and values; null: no limit. */
  clip: number | null;
  /** Number of tokens that a query sees, including its own; null: all before it. */
  window: number | null;
  /** Factor on scores; 1 / sqrt(headDim) by default. */
  scale?: number;
  /** Whether each head has a learnt sink, see `attend`; false by default. */
  sinks?: boolean;
  /**
   * Whether a head's result is multiplied by the sigmoid of a gate; false by default. The query projection makes each
   * head's gate, right behind its query.
   */
  gate?: boolean;
  /** Index of its table in `Context.rotary`; null without positions. */
  rotary: number | null;
}

/** x_TD -> attention(norm(x)) in the dtype of x. */
export const groupedQueryAttention = (layer: number, settings: GroupedQuery): Branch => ({
  kind: `${settings.gate ? "gated " : ""}attention${settings.window === null ? "" : ` in a window of ${settings.window}`}`,
  settings,
  heads: { query: settings.numHeads, keyValue: settings.numKeyValueHeads },
  parameters: parametersOf(settings),
  evaluate: (weights, x_TD, context, memory_TD = x_TD) =>
    evaluate(settings, layer, weights, { x_TD, memory_TD }, context),
});

const SINKS = "self_attn.sinks";

function parametersOf({ hiddenSize: D, headDim: C, ...settings }: GroupedQuery): ParameterSpec[] {
  const { bias, queryKeyNorm, numHeads, numKeyValueHeads, normForm, sinks = false, gate = false } = settings;
  const [query, keyValue] = [numHeads * C, numKeyValueHeads * C];
  const projection = (name: string, rows: number, columns: number): ParameterSpec[] => [
    { name: `self_attn.${name}_proj.weight`, shape: [rows, columns], init: "normal" },
    ...(bias === "all" || (bias === "qkv" && name !== "o")
      ? [{ name: `self_attn.${name}_proj.bias`, shape: [rows], init: "zeros" as const }]
      : []),
  ];
  const norm = (name: string, width: number): ParameterSpec[] =>
    queryKeyNorm === "none"
      ? []
      : [normSpec(`self_attn.${name}_norm.weight`, queryKeyNorm === "head" ? C : width, normForm)];
  return [
    normSpec("input_layernorm.weight", D, normForm),
    ...projection("q", gate ? 2 * query : query, D),
    ...norm("q", query),
    ...projection("k", keyValue, D),
    ...norm("k", keyValue),
    ...projection("v", keyValue, D),
    ...(sinks ? [{ name: SINKS, shape: [numHeads], init: "normal" as const, wide: true as const }] : []),
    ...projection("o", D, query),
  ];
}

function evaluate(
  settings: GroupedQuery,
  layer: number,
  weights: Weights,
  { x_TD, memory_TD }: { x_TD: Tensor; memory_TD: Tensor },
  context: Context,
): Tensor {
  const { clip, queryKeyNorm, headDim, numHeads, numKeyValueHeads, rotary, window, scale, sinks, gate } = settings;
  const normed = (t: Tensor, name: string): Tensor =>
    rmsNorm(t, weights.get(name), settings.normEpsilon, context.computeDtype, settings.normForm);
  const normed_TD = normed(x_TD, "input_layernorm.weight");
  const h_TD = gate ? junction(normed_TD) : normed_TD;
  const hMemory_TD = memory_TD === x_TD ? h_TD : normed(memory_TD, "input_layernorm.weight");
  const project = (name: "q" | "k" | "v"): Tensor =>
    weights.linear(`self_attn.${name}_proj`, name === "q" ? h_TD : hMemory_TD);
  // Junctions: a query and a gate use the same product, one through attention, one around it.
  const both_THN = gate ? scope(() => junction(reshape(project("q"), [-1, numHeads, 2 * headDim]))) : null;
  const heads = (name: "q" | "k" | "v", count: number): Tensor => {
    const projected_TN = name === "q" && both_THN ? narrow(both_THN, 2, 0, headDim) : project(name);
    const whole_TN =
      queryKeyNorm === "whole" && name !== "v" ? normed(projected_TN, `self_attn.${name}_norm.weight`) : projected_TN;
    return reshape(clip === null ? whole_TN : clamp(whole_TN, -clip, clip), [-1, count, headDim]);
  };
  // The norm of a head is computed together with its rotation.
  const placed = (name: "q" | "k", t_THC: Tensor): Tensor => {
    const weight = `self_attn.${name}_norm.weight`;
    if (rotary === null) return queryKeyNorm === "head" ? normed(t_THC, weight) : t_THC;
    const { normEpsilon: epsilon, normForm: form } = settings;
    const norm = queryKeyNorm === "head" ? { weight_C: weights.get(weight), epsilon, form } : null;
    return rotate(t_THC, context.rotary[rotary], { norm });
  };
  const q_THC = scope(() => placed("q", heads("q", numHeads)));
  let k_TKC = scope(() => placed("k", heads("k", numKeyValueHeads)));
  let v_TKC = scope(() => heads("v", numKeyValueHeads));
  if (!gate) free(h_TD);
  if (context.cache) ({ k_TKC, v_TKC } = context.cache.extend(layer, { k_TKC, v_TKC }));
  const sinks_H = sinks ? weights.get(SINKS) : null;
  const attended_TN = attendIn(context, { q_THC, k_UKC: k_TKC, v_UKC: v_TKC }, { window, scale, sinks_H });
  const out_TN = both_THN ? throughGate(attended_TN, narrow(both_THN, 2, headDim, headDim)) : attended_TN;
  return cast(weights.linear("self_attn.o_proj", out_TN), dtype(x_TD));
}

function throughGate(attended_TN: Tensor, gate_THC: Tensor): Tensor {
  return scope(() => reshape(gated("sigmoid", gate_THC, reshape(attended_TN, shape(gate_THC))), shape(attended_TN)));
}
