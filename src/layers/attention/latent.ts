// Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values of all heads are made from one narrow
// latent per token and from one rotated key that all heads share; queries may have a latent, too. In generation only
// latent and rotated key are kept of a token. Keys and values are not made again: queries and results go through the
// matrices that would make them.
import { bmm, cast, cat, expand, narrow, reshape, transpose } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { dtype, type Tensor } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context, LayerCache } from "../../model/context.js";
import { normSpec, rmsNorm } from "../norm.js";
import { rotate } from "../rotate.js";
import { attend } from "./attend.js";
import { attendIn } from "./spread.js";

export interface LatentAttention {
  hiddenSize: number;
  numHeads: number;
  normEpsilon: number;
  /** Width of the queries' latent; null if they are made from the hidden state. */
  queryRank: number | null;
  keyValueRank: number;
  /** Features of each head: P of queries and keys that are not rotated, R that are, V of values. */
  plainWidth: number;
  turningWidth: number;
  valueWidth: number;
  /** Whether the projections from the hidden state into latents and the output projection have biases. */
  bias: boolean;
  /** Index of its table in `Context.rotary`. */
  rotary: number;
  /** Factor on scores. */
  scale: number;
}

/** Epsilon of both latents' norms: the default of their class, whatever config.json says of other norms. */
const LATENT_EPSILON = 1e-6;

/** x_TD -> attention(norm(x)) in the dtype of x; without a window. */
export const latentAttention = (layer: number, settings: LatentAttention): Branch => ({
  kind: settings.queryRank === null ? "latent attention" : "latent attention, latent queries",
  settings,
  heads: { query: settings.numHeads, keyValue: settings.numHeads },
  parameters: parametersOf(settings),
  evaluate: (weights, x_TD, context, memory_TD = x_TD) =>
    evaluate(settings, layer, weights, { x_TD, memory_TD }, context),
});

function parametersOf(settings: LatentAttention): ParameterSpec[] {
  const { hiddenSize: D, numHeads: H, queryRank, keyValueRank, plainWidth, turningWidth, valueWidth } = settings;
  const projection = (name: string, rows: number, columns: number, bias = false): ParameterSpec[] => [
    { name: `self_attn.${name}.weight`, shape: [rows, columns], init: "normal" },
    ...(bias ? [{ name: `self_attn.${name}.bias`, shape: [rows], init: "zeros" as const }] : []),
  ];
  const query = H * (plainWidth + turningWidth);
  return [
    normSpec("input_layernorm.weight", D),
    ...(queryRank === null
      ? projection("q_proj", query, D)
      : [
          ...projection("q_a_proj", queryRank, D, settings.bias),
          normSpec("self_attn.q_a_layernorm.weight", queryRank),
          ...projection("q_b_proj", query, queryRank),
        ]),
    ...projection("kv_a_proj_with_mqa", keyValueRank + turningWidth, D, settings.bias),
    normSpec("self_attn.kv_a_layernorm.weight", keyValueRank),
    ...projection("kv_b_proj", H * (plainWidth + valueWidth), keyValueRank),
    ...projection("o_proj", D, H * valueWidth, settings.bias),
  ];
}

/**
 * For new tokens: queries with rotated second part, the normalised latent c of keys and values, and the rotated shared
 * key.
 */
interface Projected {
  q_THC: Tensor;
  c_TL: Tensor;
  kTurned_T1R: Tensor;
}

function evaluate(
  settings: LatentAttention,
  layer: number,
  weights: Weights,
  inputs: { x_TD: Tensor; memory_TD: Tensor },
  context: Context,
): Tensor {
  const projected = project(settings, weights, inputs, context);
  const { cache } = context;
  const out_TN = cache
    ? attendToLatents(settings, weights, projected, (rows) => cache.extend(layer, rows), context)
    : attendToHeads(settings, weights, projected, context);
  return cast(weights.linear("self_attn.o_proj", out_TN), dtype(inputs.x_TD));
}

function project(
  settings: LatentAttention,
  weights: Weights,
  { x_TD, memory_TD }: { x_TD: Tensor; memory_TD: Tensor },
  { computeDtype, rotary }: Context,
): Projected {
  const { numHeads, queryRank, keyValueRank, plainWidth, turningWidth } = settings;
  const normed = (t: Tensor, name: string, epsilon: number): Tensor =>
    rmsNorm(t, weights.get(`${name}.weight`), epsilon, computeDtype);
  const ofLatent = (t: Tensor, name: string): Tensor => normed(t, `self_attn.${name}`, LATENT_EPSILON);
  const linear = (name: string, t: Tensor): Tensor => weights.linear(`self_attn.${name}`, t);
  const turned = (t_THC: Tensor, start = 0): Tensor => rotate(t_THC, rotary[settings.rotary], { start });

  const h_TD = normed(x_TD, "input_layernorm", settings.normEpsilon);
  const hMemory_TD = memory_TD === x_TD ? h_TD : normed(memory_TD, "input_layernorm", settings.normEpsilon);
  const fromQuery = (): Tensor => (queryRank === null ? h_TD : ofLatent(linear("q_a_proj", h_TD), "q_a_layernorm"));
  const q_TN = scope(() => linear(queryRank === null ? "q_proj" : "q_b_proj", fromQuery()));
  const both_TN = linear("kv_a_proj_with_mqa", hMemory_TD);
  free(h_TD);
  return {
    q_THC: turned(reshape(q_TN, [-1, numHeads, plainWidth + turningWidth]), plainWidth),
    c_TL: ofLatent(narrow(both_TN, 1, 0, keyValueRank), "kv_a_layernorm"),
    kTurned_T1R: turned(reshape(narrow(both_TN, 1, keyValueRank, turningWidth), [-1, 1, turningWidth])),
  };
}

/** Attention with each head's own keys and values, [T, H*V]. */
function attendToHeads(
  { numHeads, plainWidth, turningWidth, valueWidth, scale }: LatentAttention,
  weights: Weights,
  { q_THC, c_TL, kTurned_T1R }: Projected,
  context: Context,
): Tensor {
  return scope(() => {
    const made_THN = reshape(weights.linear("self_attn.kv_b_proj", c_TL), [-1, numHeads, plainWidth + valueWidth]);
    const kTurned_THR = expand(kTurned_T1R, [-1, numHeads, turningWidth]);
    const k_THC = cat([narrow(made_THN, 2, 0, plainWidth), kTurned_THR], 2);
    return attendIn(context, { q_THC, k_UKC: k_THC, v_UKC: narrow(made_THN, 2, plainWidth, valueWidth) }, { scale });
  });
}

/**
 * The same result from latents, so that [U, L + R] numbers are kept for all U tokens. With a head's rows W_k and W_v of
 * `kv_b_proj`,
 *   q . (W_k c) = (W_k' q) . c  and  sum_s p_s W_v c_s = W_v sum_s p_s c_s
 */
function attendToLatents(
  { numHeads, plainWidth, turningWidth, valueWidth, keyValueRank, scale }: LatentAttention,
  weights: Weights,
  { q_THC, c_TL, kTurned_T1R }: Projected,
  extend: (rows: { latent_T1N: Tensor }) => ReturnType<LayerCache["extend"]>,
  { segments }: Context,
): Tensor {
  return scope(() => {
    const made_HNL = reshape(weights.get("self_attn.kv_b_proj.weight"), [numHeads, -1, keyValueRank]);
    const c_T1L = reshape(c_TL, [-1, 1, keyValueRank]);
    const { latent_T1N: k_U1N } = extend({ latent_T1N: cat([c_T1L, kTurned_T1R], 2) });
    const qLatent_HTL = bmm(transpose(narrow(q_THC, 2, 0, plainWidth), 0, 1), narrow(made_HNL, 1, 0, plainWidth));
    const q_THN = cat([transpose(qLatent_HTL, 0, 1), narrow(q_THC, 2, plainWidth, turningWidth)], 2);
    const out_TN = attend(q_THN, k_U1N, narrow(k_U1N, 2, 0, keyValueRank), segments, null, scale);
    const out_HTL = transpose(reshape(out_TN, [-1, numHeads, keyValueRank]), 0, 1);
    const out_HTV = bmm(out_HTL, transpose(narrow(made_HNL, 1, plainWidth, valueWidth), 1, 2));
    return reshape(transpose(out_HTV, 0, 1), [-1, numHeads * valueWidth]);
  });
}
