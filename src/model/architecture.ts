// What a model family states, and nothing of training: its settings from config.json, its parameters, and the two branch
// functions of a block. A family is one file named by its `model_type`; `architectureOf` is the only list of them.
import { UserError } from "../errors.js";
import type { DType, Tensor } from "../torch/tensor.js";
import type { Context } from "./context.js";
import { qwen2Moe } from "./qwen2-moe.js";

export interface ModelConfig {
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  normEpsilon: number;
  ropeTheta: number;
  maxPositions: number;
  tieEmbeddings: boolean;
  initializerRange: number;
  /** Inner width of a dense feed-forward layer. */
  denseWidth: number;
  numExperts: number;
  expertsPerToken: number;
  expertWidth: number;
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
  /** Stacked over experts: how one expert's matrices are named on disk, in the order they are stacked in rows. */
  experts?: { template: string; parts: string[] };
}

/** A block's parameters in compute form: matrices by name, stacked ones as one tensor per expert. */
export interface Weights {
  get(name: string): Tensor;
  experts(name: string): Tensor[];
}

export interface Architecture {
  modelType: string;
  readConfig(source: Record<string, unknown>, where: string): ModelConfig;
  /** Prefix of block `layer` on disk. */
  blockPrefix(layer: number): string;
  blockParameters(config: ModelConfig, layer: number): ParameterSpec[];
  /** Embedding, final norm and head under their names on disk; the head is absent when tied. */
  outerParameters(config: ModelConfig): { embedding: ParameterSpec; norm: ParameterSpec; head: ParameterSpec | null };
  /** x_TD -> the attention branch's addition to the residual stream, in the dtype of x. */
  attention(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor;
  /** x_TD -> the feed-forward branch's addition to the residual stream, in the dtype of x. */
  feedForward(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor;
  finalNorm(weight_D: Tensor, x_TD: Tensor, config: ModelConfig, computeDtype: DType): Tensor;
}

const ARCHITECTURES: Architecture[] = [qwen2Moe];

/** The family of a config.json; `where` names the file in errors. */
export function architectureOf(source: Record<string, unknown>, where: string): Architecture {
  const wanted = source.model_type;
  const found = ARCHITECTURES.find(({ modelType }) => modelType === wanted);
  if (found) return found;
  throw new UserError(
    `${where}: model_type is ${JSON.stringify(wanted) ?? "missing"} (expected ${ARCHITECTURES.map((a) => a.modelType).join(", ")}). This architecture is not supported.`,
  );
}
