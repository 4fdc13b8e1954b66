// The attention branch of a pre-norm block, as far as families share it: norm, projections with or without biases,
// optional norm and clipping of queries and keys, rotary positions, attention, output projection. What a family has of
// these is in its ModelConfig.
import { cast, clamp, linear, reshape } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { dtype, type Tensor } from "../../torch/tensor.js";
import type { ModelConfig, ParameterSpec, Weights } from "../architecture.js";
import { attend, rotate } from "./attend.js";
import type { Context } from "../context.js";
import { rmsNorm } from "../norm.js";

const hasBias = ({ attentionBias }: ModelConfig, projection: string): boolean =>
  attentionBias === "all" || (attentionBias === "qkv" && projection !== "o");

/** Parameters in the order of the forward pass, from the norm before attention to the output projection. */
export function attentionParameters(config: ModelConfig): ParameterSpec[] {
  const { hiddenSize: D, headDim: C, queryKeyNorm } = config;
  const query = config.numHeads * C;
  const keyValue = config.numKeyValueHeads * C;
  const projection = (name: string, rows: number, columns: number): ParameterSpec[] => [
    { name: `self_attn.${name}_proj.weight`, shape: [rows, columns], init: "normal" },
    ...(hasBias(config, name) ? [{ name: `self_attn.${name}_proj.bias`, shape: [rows], init: "zeros" as const }] : []),
  ];
  const norm = (name: string, width: number): ParameterSpec[] =>
    queryKeyNorm === "none"
      ? []
      : [{ name: `self_attn.${name}_norm.weight`, shape: [queryKeyNorm === "head" ? C : width], init: "ones" }];
  return [
    { name: "input_layernorm.weight", shape: [D], init: "ones" },
    ...projection("q", query, D),
    ...norm("q", query),
    ...projection("k", keyValue, D),
    ...norm("k", keyValue),
    ...projection("v", keyValue, D),
    ...projection("o", D, query),
  ];
}

/** x_TD -> attention(norm(x)) in the dtype of x; see `Architecture.attention`. */
export function attentionBranch(
  weights: Weights,
  x_TD: Tensor,
  layer: number,
  context: Context,
  memory_TD = x_TD,
): Tensor {
  const { config, cos_TC, sin_TC, computeDtype } = context;
  const { clipQkv, queryKeyNorm, headDim, numHeads, numKeyValueHeads } = config;
  const normed = (t: Tensor, name: string): Tensor => rmsNorm(t, weights.get(name), config.normEpsilon, computeDtype);
  const h_TD = normed(x_TD, "input_layernorm.weight");
  const hMemory_TD = memory_TD === x_TD ? h_TD : normed(memory_TD, "input_layernorm.weight");
  const project = (name: string, of_TD: Tensor): Tensor => {
    const bias = hasBias(config, name) ? weights.get(`self_attn.${name}_proj.bias`) : null;
    return linear(of_TD, weights.get(`self_attn.${name}_proj.weight`), bias);
  };
  const heads = (name: string, count: number): Tensor => {
    const norm = name === "v" ? "none" : queryKeyNorm;
    const projected_TN = project(name, name === "q" ? h_TD : hMemory_TD);
    const whole_TN = norm === "whole" ? normed(projected_TN, `self_attn.${name}_norm.weight`) : projected_TN;
    const split_THC = reshape(clipQkv === null ? whole_TN : clamp(whole_TN, -clipQkv, clipQkv), [-1, count, headDim]);
    return norm === "head" ? normed(split_THC, `self_attn.${name}_norm.weight`) : split_THC;
  };
  const q_THC = scope(() => rotate(heads("q", numHeads), cos_TC, sin_TC));
  let keys_TKC = scope(() => rotate(heads("k", numKeyValueHeads), cos_TC, sin_TC));
  let values_TKC = scope(() => heads("v", numKeyValueHeads));
  free(h_TD);
  if (context.cache) ({ keys_TKC, values_TKC } = context.cache.extend(layer, keys_TKC, values_TKC));
  return cast(project("o", attend(q_THC, keys_TKC, values_TKC, context.segments, config.slidingWindow)), dtype(x_TD));
}
