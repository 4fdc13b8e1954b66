// The family that a dense model becomes: its config.json, and what it cannot express of the dense function. Copies of
// one MLP whose gates sum to 1 compute that MLP, whatever the router says. So only two things can be lost: parts of
// attention, and slices of the MLP that a token does not pick.
import { UserError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import type { Attention, DenseModel } from "./dense.js";

/** The simplest first: without norms, biases and a shared expert. */
export const TARGETS = ["mixtral", "qwen3_moe", "qwen2_moe"] as const;
export type Target = (typeof TARGETS)[number];

export interface ExpertShape {
  numExperts: number;
  expertsPerToken: number;
  /** Inner width of one expert; 0: that of the dense MLP. */
  expertWidth: number;
  /** Every n-th layer gets experts, with this n; the others keep their MLP. */
  decoderSparseStep: number;
}

export interface TargetModel {
  architecture: Architecture;
  /** Width of the shared expert; 0: none. */
  sharedWidth: number;
  /** How many experts together have the width of the dense MLP. */
  slices: number;
  /** Whether each token picks every slice equally often. */
  wholeCopies: boolean;
  /**
   * Factor for an expert's down projection: G, the number of slices, because a copy's slices share its gate. With a
   * shared expert half of that, since the shared expert gives the other half; so both contribute from the first step.
   */
  downScale: number;
  /** The differences from the dense model, in words; empty if the function is the same. */
  lost: string[];
}

/**
 * The target asked for; for "auto" the first that loses nothing, else the one that loses least. Errors: UserError if
 * the experts do not divide the MLP evenly, or the target has no dense layers to keep.
 */
export function chooseTarget(dense: DenseModel, to: "auto" | Target, shape: ExpertShape): TargetModel {
  const possible = TARGETS.filter((each) => shape.decoderSparseStep === 1 || each !== "mixtral");
  if (to !== "auto") {
    if (possible.includes(to)) return makeTarget(dense, to, shape);
    throw new UserError(
      `decoder_sparse_step ${shape.decoderSparseStep}: ${to} has experts in every layer (expected 1). Set to: ${possible.join(" or ")}.`,
    );
  }
  const made = possible.map((each) => makeTarget(dense, each, shape));
  return made.reduce((best, next) => (next.lost.length < best.lost.length ? next : best));
}

function makeTarget(dense: DenseModel, to: Target, shape: ExpertShape): TargetModel {
  const { denseWidth, numLayers } = dense.geometry;
  const { numExperts, expertsPerToken, decoderSparseStep } = shape;
  const expertWidth = shape.expertWidth || denseWidth;
  const slices = denseWidth / expertWidth;
  if (!Number.isInteger(slices)) {
    throw new UserError(
      `expert_width ${expertWidth}: does not divide the dense MLP's width, ${denseWidth} (expected a divisor of it).`,
    );
  }
  if (numExperts % slices !== 0) {
    throw new UserError(
      `num_experts ${numExperts}: expert_width ${expertWidth} cuts the MLP into ${slices} slices (expected a multiple of ${slices}, ` +
        "so that there are equally many copies of each).",
    );
  }
  if (expertsPerToken > numExperts)
    throw new UserError(`experts_per_token ${expertsPerToken}: expected at most num_experts, ${numExperts}.`);
  if (decoderSparseStep > numLayers) {
    throw new UserError(
      `decoder_sparse_step ${decoderSparseStep}: the model has ${numLayers} layers (expected at most so many).`,
    );
  }
  const source = configOf(dense, to, { ...shape, expertWidth });
  const architecture = readArchitecture(source, to);
  const wholeCopies = expertsPerToken % slices === 0;
  const lost = lostAttention(dense, to);
  if (!wholeCopies) {
    lost.push(
      `of the ${slices} slices of the MLP, a token's ${expertsPerToken} experts are not whole copies (their mean over tokens is the MLP)`,
    );
  }
  const sharedWidth = to === "qwen2_moe" ? denseWidth : 0;
  const downScale = sharedWidth > 0 ? slices / 2 : slices;
  return { architecture, sharedWidth, slices, wholeCopies, downScale, lost };
}

const KEPT_KEYS = ["bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"];

const CLASSES: Record<Target, string> = {
  mixtral: "MixtralForCausalLM",
  qwen2_moe: "Qwen2MoeForCausalLM",
  qwen3_moe: "Qwen3MoeForCausalLM",
};

function configOf(
  { geometry: dense, attention: { bias, window } }: DenseModel,
  to: Target,
  { numExperts, expertsPerToken, expertWidth, decoderSparseStep }: ExpertShape,
) {
  const { denseWidth } = dense;
  const qwen = {
    intermediate_size: denseWidth,
    moe_intermediate_size: expertWidth,
    num_experts: numExperts,
    norm_topk_prob: true,
    decoder_sparse_step: decoderSparseStep,
    mlp_only_layers: [],
  };
  const own: Record<Target, Record<string, unknown>> = {
    mixtral: { intermediate_size: expertWidth, num_local_experts: numExperts, sliding_window: window },
    qwen2_moe: { ...qwen, shared_expert_intermediate_size: denseWidth, qkv_bias: true, use_sliding_window: false },
    qwen3_moe: {
      ...qwen,
      attention_bias: bias !== "none",
      use_sliding_window: window !== null,
      sliding_window: window,
      max_window_layers: 0,
    },
  };
  return {
    architectures: [CLASSES[to]],
    model_type: to,
    vocab_size: dense.vocabSize,
    hidden_size: dense.hiddenSize,
    num_hidden_layers: dense.numLayers,
    num_attention_heads: dense.numHeads,
    num_key_value_heads: dense.numKeyValueHeads,
    head_dim: dense.headDim,
    hidden_act: "silu",
    rms_norm_eps: dense.normEpsilon,
    max_position_embeddings: dense.maxPositions,
    ...ropeOf(dense),
    tie_word_embeddings: dense.tieEmbeddings,
    initializer_range: dense.initializerRange,
    ...Object.fromEntries(
      KEPT_KEYS.filter((key) => Object.hasOwn(dense.source, key)).map((key) => [key, dense.source[key]]),
    ),
    num_experts_per_tok: expertsPerToken,
    ...own[to],
  };
}

/** Rotary settings in the older form, which transformers 4 and 5 both read. */
function ropeOf({ rope, source }: DenseModel["geometry"]): Record<string, unknown> {
  const given = (source.rope_scaling ?? source.rope_parameters ?? {}) as Record<string, unknown>;
  const { rope_theta: _, rope_type: newName, type: oldName, ...rest } = given;
  const type = newName ?? oldName ?? "default";
  const original = source.original_max_position_embeddings;
  const length = original === undefined || original === null ? {} : { original_max_position_embeddings: original };
  return { rope_theta: rope.theta, rope_scaling: type === "default" ? null : { rope_type: type, ...rest, ...length } };
}

/** The attention of each target for a dense model with attention `dense`. */
const ATTENTION: Record<Target, (dense: Attention) => Attention> = {
  mixtral: ({ window }) => ({ bias: "none", queryKeyNorm: "none", window }),
  qwen2_moe: () => ({ bias: "qkv", queryKeyNorm: "none", window: null }),
  qwen3_moe: ({ bias, window }) => ({ bias: bias === "none" ? "none" : "all", queryKeyNorm: "head", window }),
};

function lostAttention({ attention: dense, mixedWindows }: DenseModel, to: Target): string[] {
  const target = ATTENTION[to](dense);
  const lost: string[] = [];
  if (dense.queryKeyNorm !== target.queryKeyNorm) {
    lost.push(
      target.queryKeyNorm === "none"
        ? `the norms of queries and keys, which ${to} does not have`
        : `attention without norms of queries and keys, which ${to} always has`,
    );
  }
  if (dense.bias !== "none" && target.bias === "none") lost.push(`the biases of attention, which ${to} does not have`);
  if (dense.bias === "all" && target.bias === "qkv") {
    lost.push(`the bias of attention's output projection, which ${to} does not have`);
  }
  if (dense.window !== target.window) {
    lost.push(`the sliding window of ${dense.window} tokens, which ${to} does not have here`);
  }
  if (mixedWindows) lost.push(`the sliding window of some layers, where ${to} has one in all layers or in none`);
  return lost;
}
