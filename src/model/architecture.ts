// What a model family states, and nothing of training: its settings from config.json, its parameters, and the two branch
// functions of a block. A family is one file named by its `model_type`; `architectureOf` is the only list of them.
import { excerpt, UserError } from "../errors.js";
import type { DType, Tensor } from "../torch/tensor.js";
import type { Context } from "./context.js";
import type { ExpertRows } from "./expert-rows.js";
import { mixtral } from "./mixtral.js";
import { olmoe } from "./olmoe.js";
import { qwen2Moe } from "./qwen2-moe.js";
import { qwen3Moe } from "./qwen3-moe.js";
import type { Rope } from "./rope.js";

export interface ModelConfig {
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  normEpsilon: number;
  rope: Rope;
  maxPositions: number;
  /** Which projections of attention have a bias: none, all, or query, key and value. */
  attentionBias: "none" | "qkv" | "all";
  /** What RMSNorm of queries and keys runs over: nothing, each head, or the vector of all heads. */
  queryKeyNorm: "none" | "head" | "whole";
  /** Largest size of an element of queries, keys and values; null for no limit. */
  clipQkv: number | null;
  /** How many tokens a query sees, itself included; null for all before it. */
  slidingWindow: number | null;
  tieEmbeddings: boolean;
  initializerRange: number;
  /** Inner width of a dense feed-forward layer. */
  denseWidth: number;
  numExperts: number;
  expertsPerToken: number;
  expertWidth: number;
  /** 0 where there is no shared expert. */
  sharedExpertWidth: number;
  normalizeTopK: boolean;
  /** Whether layer i routes its tokens to experts; a dense feed-forward otherwise. */
  sparse: boolean[];
  /** config.json as read, written back unchanged on export. */
  source: Record<string, unknown>;
}

export interface ParameterSpec {
  /** The name on disk without the block's prefix; for experts, the fused name of transformers 5. */
  name: string;
  shape: number[];
  init: "normal" | "ones" | "zeros";
  /** The name among per-expert tensors on disk, where it is another one. */
  perExpertName?: string;
  /** Whether these weights choose the experts. */
  router?: true;
  /** Stacked over experts: how one expert's matrices are named on disk, in the order they are stacked in rows. */
  experts?: { template: string; parts: string[] };
  /** Not of the pretrained model: how it starts, and which stream it serves. */
  adapter?: { init: "random" | "identity"; stream: 1 | 2 };
}

/** A block's parameters in compute form: matrices by name, stacked ones as one tensor per expert, in the dtype they are stored in. */
export interface Weights {
  get(name: string): Tensor;
  experts(name: string): Tensor[];
  /** Where rows of experts are kept instead of gradients made of them, in what is recorded from now on; without it, gradients are made. */
  readonly expertRows?: ExpertRows | null;
}

export interface Architecture {
  modelType: string;
  /** Which adapters the blocks have, where they run on streams of half the width. */
  adapters?: "layer" | "stream";
  readConfig(source: Record<string, unknown>, where: string): ModelConfig;
  /** Prefix of block `layer` on disk. */
  blockPrefix(layer: number): string;
  blockParameters(config: ModelConfig, layer: number): ParameterSpec[];
  /** Embedding, final norm and head under their names on disk; the head is absent when tied. */
  outerParameters(config: ModelConfig): { embedding: ParameterSpec; norm: ParameterSpec; head: ParameterSpec | null };
  /** x_TD -> the attention branch's addition to the residual stream, in the dtype of x; keys and values are from `memory_TD` where given. */
  attention(weights: Weights, x_TD: Tensor, layer: number, context: Context, memory_TD?: Tensor): Tensor;
  /** x_TD -> the feed-forward branch's addition to the residual stream, in the dtype of x. */
  feedForward(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor;
  finalNorm(weight_D: Tensor, x_TD: Tensor, config: ModelConfig, computeDtype: DType): Tensor;
}

const ARCHITECTURES: Architecture[] = [qwen2Moe, qwen3Moe, mixtral, olmoe];

/** The family of a config.json; `where` names the file in errors. */
export function architectureOf(source: Record<string, unknown>, where: string): Architecture {
  const wanted = source.model_type;
  const found = ARCHITECTURES.find(({ modelType }) => modelType === wanted);
  if (found) return found;
  const dense = ["llama", "mistral", "qwen2", "qwen3"].includes(wanted as string);
  throw new UserError(
    `${where}: model_type is ${excerpt(wanted)} (expected ${ARCHITECTURES.map((a) => a.modelType).join(", ")}). ` +
      (dense ? "Make a mixture of experts of it: revmoe upcycle." : "This architecture is not supported."),
  );
}
