// The linear attention of Qwen3-Next and Qwen3.5 (Gated DeltaNet, arXiv 2412.06464): a short convolution over queries, keys and values,
// the gated delta rule in each head of values, and a norm behind which a gate is. From the projections to the gate it runs in float32
// (float64 for float64), tile by tile (scan.ts). When generating, a layer keeps its states and the last inputs of the
// convolution, whatever the length of the text.
import {
  add,
  cast,
  cat,
  exp,
  expand,
  mul,
  mulScalar,
  narrow,
  neg,
  reshape,
  rsqrt,
  addScalar,
  sigmoid,
  silu,
  softplus,
  square,
  sumDim,
  unsqueeze,
  view,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, type DType, shape, type Tensor, zeros } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context } from "../../model/context.js";
import { type NormForm, normSpec, rmsNorm } from "../norm.js";
import { wide } from "../wide.js";
import { deltaRule } from "./delta-rule.js";
import type { Projections, Projected } from "./delta-projections.js";
import { scan, type TileWork } from "./scan.js";
import { shortConvolution } from "./short-convolution.js";

export interface GatedDelta {
  hiddenSize: number;
  normEpsilon: number;
  /** Of the norm in front; "n rounded" unless said otherwise. */
  normForm?: NormForm;
  keyHeads: number;
  keyWidth: number;
  /** A multiple of the key heads: so many follow one another that share a key head. */
  valueHeads: number;
  valueWidth: number;
  /** Tokens that the convolution sees, its own the last. */
  kernel: number;
  projections: Projections;
}

/** Tokens of a chunk of the delta rule, and of what is computed again at once. */
export interface DeltaLimits {
  chunk: number;
  tile: number;
}

// Elsewhere than on a processor, a call costs more than what it computes, unless it is large.
const limitsOn = (on: string): DeltaLimits =>
  on.startsWith("cpu") ? { chunk: 64, tile: 256 } : { chunk: 64, tile: 1024 };

/** x_TD -> linear attention(norm(x)) in the dtype of x. */
export const gatedDeltaAttention = (layer: number, settings: GatedDelta, limits?: DeltaLimits): Branch => ({
  kind: "gated delta rule",
  settings,
  parameters: parametersOf(settings),
  evaluate: (weights, x_TD, context, memory_TD = x_TD) =>
    evaluate(settings, limits ?? limitsOn(device(x_TD)), layer, weights, { x_TD, memory_TD }, context),
});

const NORM = "input_layernorm.weight";

function parametersOf({
  hiddenSize: D,
  keyHeads,
  keyWidth,
  valueHeads,
  valueWidth,
  ...rest
}: GatedDelta): ParameterSpec[] {
  const values = valueHeads * valueWidth;
  return [
    normSpec(NORM, D, rest.normForm),
    ...rest.projections.matrices.map(
      ({ name, rows }): ParameterSpec => ({
        name: `linear_attn.${name}.weight`,
        shape: [rows, D],
        init: "normal",
      }),
    ),
    { name: "linear_attn.conv1d.weight", shape: [2 * keyHeads * keyWidth + values, 1, rest.kernel], init: "normal" },
    { name: "linear_attn.A_log", shape: [valueHeads], init: "zeros", wide: true },
    { name: "linear_attn.dt_bias", shape: [valueHeads], init: "ones", wide: true },
    { name: "linear_attn.norm.weight", shape: [valueWidth], init: "ones" },
    { name: "linear_attn.out_proj.weight", shape: [D, values], init: "normal" },
  ];
}

function evaluate(
  settings: GatedDelta,
  { chunk, tile }: DeltaLimits,
  layer: number,
  weights: Weights,
  { x_TD, memory_TD }: { x_TD: Tensor; memory_TD: Tensor },
  { computeDtype, segments, cache }: Context,
): Tensor {
  const { keyHeads, keyWidth, valueHeads, valueWidth, kernel, projections } = settings;
  const project = (t_TD: Tensor): Tensor[] =>
    scope(() => {
      const h_TD = rmsNorm(t_TD, weights.get(NORM), settings.normEpsilon, computeDtype, settings.normForm);
      return projections.matrices.map(({ name }) => weights.linear(`linear_attn.${name}`, h_TD));
    });
  const own = project(x_TD);
  const ofMemory = memory_TD === x_TD ? [] : project(memory_TD);
  const channels = 2 * keyHeads * keyWidth + valueHeads * valueWidth;
  // A view, for what a custom function is given belongs to it.
  const used = (name: string, ...size: number[]): Tensor => view(weights.get(`linear_attn.${name}`), size);
  const type: DType = computeDtype === "float64" ? "float64" : "float32";
  const kept = cache?.recall(layer);
  const state = Object.entries({ before: [kernel - 1, channels], state: [valueHeads, keyWidth, valueWidth] }).map(
    ([name, size]) => (kept ? cast(kept[name], type, false, true) : zeros(size, type, device(x_TD))),
  );
  const out_TN = scan(
    {
      rows: [...own, ...ofMemory],
      weights: [
        used("conv1d.weight", channels, kernel),
        used("A_log", valueHeads),
        used("dt_bias", valueHeads),
        used("norm.weight", valueWidth),
      ],
      state,
      segments,
      tileTokens: tile,
      width: valueHeads * valueWidth,
      type: computeDtype,
    },
    (rows, [conv, aLog, dtBias, norm], [before, before_HCV]) => {
      const query = projections.split(rows.slice(0, own.length));
      const memory = ofMemory.length === 0 ? query : projections.split(rows.slice(own.length));
      return tileOf(
        settings,
        { ...memory, q_TN: query.q_TN, z_TN: query.z_TN },
        { conv_NK: conv, aLog_H: aLog, dtBias_H: dtBias, norm_V: norm },
        { before_PN: before, state_HCV: before_HCV },
        { chunk, computeDtype },
      );
    },
  );
  cache?.replace(layer, { before: state[0], state: state[1] });
  return cast(weights.linear("linear_attn.out_proj", out_TN), dtype(x_TD));
}

/** Everything between the projections, of a tile of tokens. */
function tileOf(
  { keyHeads, keyWidth, valueHeads, valueWidth, normEpsilon }: GatedDelta,
  { q_TN, k_TN, v_TN, z_TN, b_TH, a_TH }: Projected,
  { conv_NK, aLog_H, dtBias_H, norm_V }: { conv_NK: Tensor; aLog_H: Tensor; dtBias_H: Tensor; norm_V: Tensor },
  before: { before_PN: Tensor; state_HCV: Tensor },
  { chunk, computeDtype }: { chunk: number; computeDtype: DType },
): ReturnType<TileWork> {
  return scope(() => {
    const mixed = scope(() => {
      const x_TN = wide(cat([q_TN, k_TN, v_TN], 1));
      const { y_TN, before_PN } = shortConvolution(x_TN, wide(conv_NK), before.before_PN);
      return { y_TN: silu(y_TN), before_PN };
    });
    const keys = keyHeads * keyWidth;
    const heads = (first: number, count: number, width: number): Tensor =>
      reshape(narrow(mixed.y_TN, 1, first, count * width), [-1, count, width]);
    const key_THC = (first: number): Tensor =>
      repeated(unitLength(heads(first, keyHeads, keyWidth)), valueHeads / keyHeads);
    const { out_THV, state_HCV } = deltaRule(
      {
        q_THC: mulScalar(key_THC(0), keyWidth ** -0.5),
        k_THC: key_THC(keys),
        v_THV: heads(2 * keys, valueHeads, valueWidth),
        logDecay_TH: scope(() => neg(mul(exp(wide(aLog_H)), softplus(add(wide(a_TH), wide(dtBias_H)))))),
        rate_TH: sigmoid(wide(b_TH)),
      },
      before.state_HCV,
      chunk,
    );
    const normed_THV = rmsNorm(out_THV, norm_V, normEpsilon, computeDtype);
    const gated_THV = mul(wide(normed_THV), silu(wide(reshape(z_TN, shape(normed_THV)))));
    const out_TN = cast(reshape(gated_THV, [-1, valueHeads * valueWidth]), computeDtype);
    return { out_TN, state: [mixed.before_PN, state_HCV] };
  });
}

/** x / |x|, each head by itself. */
const unitLength = (x_THC: Tensor): Tensor =>
  scope(() => mul(x_THC, rsqrt(addScalar(sumDim(square(x_THC), [-1], true), 1e-6))));

/** Each head `times` times, one behind the other. */
function repeated(x_THC: Tensor, times: number): Tensor {
  const [tokens, heads, width] = shape(x_THC);
  if (times === 1) return x_THC;
  return reshape(expand(unsqueeze(x_THC, 2), [tokens, heads, times, width]), [tokens, heads * times, width]);
}
