// The linear attention of Qwen3-Next and Qwen3.5 (Gated DeltaNet, arXiv 2412.06464): a short convolution over queries,
// keys and values, the gated delta rule in each value head, then a norm and a gate. Between the projections it runs in
// float32 (float64 for float64), tile by tile (scan.ts). In generation, a layer keeps its states and the convolution's
// last inputs; their size does not grow with the text.
import { cast, cat, contiguous, narrow, transpose, view } from "../../torch/ops.js";
import { junction } from "../../torch/graph.js";
import { hasKernels } from "../../torch/kernels/kernels.js";
import { free, scope } from "../../torch/scope.js";
import { device, dtype, type DType, shape, type Tensor, zeros } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context, Spread } from "../../model/context.js";
import { normSpec, rmsNorm } from "../norm.js";
import { wide } from "../wide.js";
import { kernelTile } from "./delta-kernels.js";
import { byParts, projectionsOfPart, split } from "./delta-projections.js";
import { referenceTile } from "./delta-reference.js";
import type { GatedDelta } from "./delta-settings.js";
import { differentiated, scan } from "./scan.js";
import { ownPart, toHeads, toTokens } from "./spread.js";

/** `chunk`: tokens of a chunk of the delta rule. `tile`: tokens that are recomputed at once. */
export interface DeltaLimits {
  chunk: number;
  tile: number;
}

// On a GPU a small call costs more than what it computes, so tiles are larger there.
const limitsOn = (on: string): DeltaLimits =>
  on.startsWith("cpu") ? { chunk: 64, tile: 256 } : { chunk: 64, tile: 1024 };

/** x_TD -> linear attention(norm(x)) in the dtype of x. */
export const gatedDeltaAttention = (layer: number, settings: GatedDelta, limits?: DeltaLimits): Branch => ({
  kind: "gated delta rule",
  settings,
  heads: { query: settings.keyHeads, keyValue: settings.keyHeads, areStates: true },
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
  whole: GatedDelta,
  { chunk, tile }: DeltaLimits,
  layer: number,
  weights: Weights,
  { x_TD, memory_TD }: { x_TD: Tensor; memory_TD: Tensor },
  { computeDtype, segments, cache, spread }: Context,
): Tensor {
  // Where ranks hold a micro-batch together, this one has some heads of all tokens.
  const settings = spread ? settingsOfPart(whole, spread.tokens.length) : whole;
  const { keyHeads, keyWidth, valueHeads, valueWidth, kernel, projections } = settings;
  const project = (t_TD: Tensor): Tensor[] =>
    scope(() => {
      const normed_TD = rmsNorm(t_TD, weights.get(NORM), settings.normEpsilon, computeDtype, settings.normForm);
      // Each matrix uses it, and each result is moved by itself.
      const h_TD = spread ? junction(normed_TD) : normed_TD;
      return projections.matrices.map(({ name }) => weights.linear(`linear_attn.${name}`, h_TD));
    });
  const made = project(x_TD);
  const madeOfMemory = memory_TD === x_TD ? [] : project(memory_TD);
  const rows = spread ? rowsOfPart(whole, spread, [...made, ...madeOfMemory]) : [...made, ...madeOfMemory];
  const [own, ofMemory] = [rows.slice(0, made.length), rows.slice(made.length)];
  const channels = 2 * keyHeads * keyWidth + valueHeads * valueWidth;
  // A view, because a custom function owns what it is given.
  const used = (name: string, ...size: number[]): Tensor => {
    const t = weights.get(`linear_attn.${name}`);
    return view(spread && name !== "norm.weight" ? weightOfPart(whole, spread, name, t) : t, size);
  };
  const type: DType = computeDtype === "float64" ? "float64" : "float32";
  const inKernels = hasKernels(device(x_TD)) && (computeDtype === "float32" || computeDtype === "bfloat16");
  const ofWeights = [
    used("conv1d.weight", channels, kernel),
    used("A_log", valueHeads),
    used("dt_bias", valueHeads),
    used("norm.weight", valueWidth),
  ];
  // The kernels keep the states of the heads that share a key side by side.
  const stateSize = inKernels
    ? [keyHeads, keyWidth, (valueHeads / keyHeads) * valueWidth]
    : [valueHeads, keyWidth, valueWidth];
  const kept = cache?.recall(layer);
  const state = Object.entries({ before: [kernel - 1, channels], state: stateSize }).map(([name, size]) =>
    kept ? cast(kept[name], type, false, true) : zeros(size, type, device(x_TD)),
  );
  const out_TN = scan(
    {
      rows,
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
  const tokens_TN = spread ? toTokens(spread, out_TN) : out_TN;
  return cast(weights.linear("linear_attn.out_proj", tokens_TN), dtype(x_TD));
}

/** The settings of one of `parts` equal parts of the heads. */
const settingsOfPart = (settings: GatedDelta, parts: number): GatedDelta => ({
  ...settings,
  keyHeads: settings.keyHeads / parts,
  valueHeads: settings.valueHeads / parts,
  projections: projectionsOfPart(settings.projections, parts),
});

/**
 * Turns what the matrices made, from all heads of this rank's tokens to its heads of all tokens, each dense. Frees its
 * arguments.
 */
function rowsOfPart({ projections }: GatedDelta, spread: Spread, made: Tensor[]): Tensor[] {
  const { length } = projections.matrices;
  return made.flatMap((t_TN, i) => {
    const moved = scope(() => toHeads(spread, [byParts(projections, i % length, t_TN, spread.tokens.length)]));
    free(t_TN);
    return moved;
  });
}

/** The part of a weight for this rank's heads; of the convolution, its channels of queries, keys and values. */
function weightOfPart({ keyHeads, keyWidth }: GatedDelta, spread: Spread, name: string, t: Tensor): Tensor {
  if (name !== "conv1d.weight") return ownPart(spread, t);
  const [channels, keys] = [shape(t)[0], keyHeads * keyWidth];
  return scope(() => {
    const places = [0, keys, 2 * keys, channels];
    const part = (i: number): Tensor => ownPart(spread, narrow(t, 0, places[i], places[i + 1] - places[i]));
    return cat([0, 1, 2].map(part), 0);
  });
}

/** Weights as the kernels take them: in float32, the convolution tap by tap. */
function widened([conv_NK, ...others]: Tensor[]): Tensor[] {
  return [contiguous(transpose(wide(conv_NK), 0, 1)), ...others.map(wide)];
}
