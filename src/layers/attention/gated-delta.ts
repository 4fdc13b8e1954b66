// The linear attention of Qwen3-Next and Qwen3.5 (Gated DeltaNet, arXiv 2412.06464): a short convolution over queries, keys and values,
// the gated delta rule in each head of values, and a norm behind which a gate is. From the projections to the gate it runs in float32
// (float64 for float64), tile by tile (scan.ts). When generating, a layer keeps its states and the last inputs of the
// convolution, whatever the length of the text.
import { cast, contiguous, transpose, view } from "../../torch/ops.js";
import { hasKernels } from "../../torch/kernels/kernels.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, type DType, type Tensor, zeros } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context } from "../../model/context.js";
import { normSpec, rmsNorm } from "../norm.js";
import { wide } from "../wide.js";
import { kernelTile } from "./delta-kernels.js";
import { split } from "./delta-projections.js";
import { referenceTile } from "./delta-reference.js";
import type { GatedDelta } from "./delta-settings.js";
import { differentiated, scan } from "./scan.js";

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
  const inKernels = hasKernels(device(x_TD)) && (computeDtype === "float32" || computeDtype === "bfloat16");
  const ofWeights = [
    used("conv1d.weight", channels, kernel),
    used("A_log", valueHeads),
    used("dt_bias", valueHeads),
    used("norm.weight", valueWidth),
  ];
  // The kernels keep the states of heads that share a key side by side.
  const stateSize = inKernels
    ? [keyHeads, keyWidth, (valueHeads / keyHeads) * valueWidth]
    : [valueHeads, keyWidth, valueWidth];
  const kept = cache?.recall(layer);
  const state = Object.entries({ before: [kernel - 1, channels], state: stateSize }).map(([name, size]) =>
    kept ? cast(kept[name], type, false, true) : zeros(size, type, device(x_TD)),
  );
  const out_TN = scan(
    {
      rows: [...own, ...ofMemory],
      weights: inKernels ? scope(() => widened(ofWeights)) : ofWeights,
      state,
      segments,
      tileTokens: tile,
      width: valueHeads * valueWidth,
      type: computeDtype,
    },
    inKernels
      ? kernelTile(settings, chunk, ofMemory.length > 0)
      : differentiated(({ rows, weights: [conv_NK, aLog_H, dtBias_H, norm_V], state: [before_PN, state_HCV] }) => {
          const query = split(projections, rows.slice(0, own.length));
          const memory = ofMemory.length === 0 ? query : split(projections, rows.slice(own.length));
          return referenceTile(
            settings,
            { ...memory, q_TN: query.q_TN, z_TN: query.z_TN },
            { conv_NK, aLog_H, dtBias_H, norm_V },
            { before_PN, state_HCV },
            { chunk, computeDtype },
          );
        }),
  );
  cache?.replace(layer, { before: state[0], state: state[1] });
  return cast(weights.linear("linear_attn.out_proj", out_TN), dtype(x_TD));
}

/** As the kernels take them: in float32, the convolution tap by tap. */
function widened([conv_NK, ...others]: Tensor[]): Tensor[] {
  return [contiguous(transpose(wide(conv_NK), 0, 1)), ...others.map(wide)];
}
