// What a model is, without training: layers of two branches each, parameters with their names on disk, and what every
// micro-batch carries through them. A family makes one from config.json; branches are in layers/. Only interfaces.
import type { DType, Tensor } from "../torch/tensor.js";
import type { Context } from "./context.js";
import type { ExpertRows, Experts, ExpertsElsewhere } from "./expert-rows.js";
import type { Rotary } from "./rotary.js";

export interface Architecture {
  modelType: string;
  /** config.json as read, written back unchanged on export. */
  source: Record<string, unknown>;
  vocabSize: number;
  hiddenSize: number;
  maxPositions: number;
  initializerRange: number;
  /** Sizes in the layers that route; 0 experts where none does. */
  experts: ExpertSizes;
  /** The tables of positions that the context holds; attention names one by its index. */
  rotary: Rotary[];
  scales: Scales;
  layers: Layer[];
  outer: OuterParameters;
  /** x_TD -> norm(x) in `computeDtype`, in front of the head. */
  finalNorm(weight_D: Tensor, x_TD: Tensor, computeDtype: DType): Tensor;
  /**
   * Matches names on disk of tensors that no forward pass here uses but a copy of the model keeps: prediction layers,
   * towers.
   */
  passThrough?: RegExp;
  /** Which adapters the blocks have, where they run on streams of half the width. */
  adapters?: "layer" | "stream";
}

export interface ExpertSizes {
  count: number;
  perToken: number;
  /** Inner width of one expert. */
  width: number;
}

/** Embedding, final norm and head under their names on disk; the head is null when tied to the embedding. */
export interface OuterParameters {
  embedding: ParameterSpec;
  norm: ParameterSpec;
  head: ParameterSpec | null;
}

/** Factors outside the layers; scales.ts has their gradients. */
export interface Scales {
  /** Multiplies embedded tokens. */
  embedding: number;
  /** Multiplies logits. */
  logits: number;
  /** c of c tanh(z / c), applied after the factor; null: no cap. */
  softCap: number | null;
}

export interface Layer {
  /** Layers of one kind have parameters of the same shapes and do the same work, so a plan counts one for all. */
  kind: string;
  /** Prefix of its parameters' names on disk. */
  prefix: string;
  attention: Branch;
  feedForward: Branch;
  /** Adapters that let its branches run on streams of half the width, if it has any; see adapters.ts. */
  adapters?: ParameterSpec[];
}

/** A function of the residual stream whose value is added to it. */
export interface Branch {
  /** What it is, in words; branches of equal work and shapes have equal words. */
  kind: string;
  /** In the order of the forward pass. */
  parameters: ParameterSpec[];
  /** The settings it was made from, for code that describes a model. */
  settings: object;
  /**
   * Heads of an attention branch, which ranks can divide among them. Heads of keys and values may be repeated for that,
   * unless they belong to a state.
   */
  heads?: { query: number; keyValue: number; areStates?: true };
  /**
   * x_TD -> the addition, in the dtype of x. Attention takes keys and values from `memory_TD` if it is given;
   * feed-forward treats each token by itself.
   */
  evaluate(weights: Weights, x_TD: Tensor, context: Context, memory_TD?: Tensor): Tensor;
  /** The experts of a layer that routes. */
  experts?(weights: Weights): Experts;
}

/** How experts lie on disk: one by one, as models are released, or stacked, as transformers 5 has them in memory. */
export type Layout = "per-expert" | "fused";

export interface ParameterSpec {
  /** The name without the layer's prefix, in memory, in messages and in states. */
  name: string;
  shape: number[];
  init: "normal" | "ones" | "zeros";
  /** Its name on disk in a layout, if that is another one. */
  onDisk?: Partial<Record<Layout, string>>;
  /** Whether these weights choose the experts. */
  router?: true;
  /** Whether products with it are in float32, whatever the compute dtype. */
  wide?: true;
  /**
   * Not a weight: always float32, whatever dtype weights have, and never trained. It has no gradient, norm or optimizer
   * state.
   */
  buffer?: true;
  /** How it is stacked, if it is a stack of experts. */
  experts?: StackedExperts;
  /** For adapters, which no pretrained model has: how it starts, and which stream it serves. */
  adapter?: { init: "random" | "identity"; stream: 1 | 2 };
}

export interface StackedExperts {
  /** The name on disk of one expert's matrix; missing where experts are stacked there, too. */
  template?: string;
  /** The projections that are stacked in rows, in order. */
  parts: string[];
  /**
   * For experts without a template whose order on disk differs from memory. On disk one expert has this `shape`; viewed
   * as `seen`, its first and last dimension are swapped.
   */
  turned?: { shape: number[]; seen: number[] };
}

/**
 * A block's parameters in compute form: matrices by name; stacked ones as one tensor per expert, in the dtype they are
 * stored in.
 */
export interface Weights {
  get(name: string): Tensor;
  experts(name: string): Tensor[];
  /** x W' + b with NAME.weight and, if it exists, NAME.bias. Every product with a weight is made here. */
  linear(name: string, x_TD: Tensor): Tensor;
  /**
   * Takes the rows that experts' gradients are made of, in what is recorded from now on. Without it, gradients are made
   * at once.
   */
  readonly expertRows?: ExpertRows | null;
  /** Which experts' gradients hold values when their backward pass begins; without it, all do. See `groupedExperts`. */
  readonly written?: Tensor | null;
  /** Passes rows of tokens to experts on other ranks, if not all experts are here. */
  readonly elsewhere?: ExpertsElsewhere | null;
}

/** A layer's parameters in the order of the forward pass. */
export const layerParameters = ({ adapters = [], attention, feedForward }: Layer): ParameterSpec[] => [
  ...adapters,
  ...attention.parameters,
  ...feedForward.parameters,
];

/** Whether a layer's tokens choose among experts. */
export const isRouted = ({ feedForward }: Layer): boolean => feedForward.parameters.some(({ router }) => router);

export const hasExperts = ({ layers }: Architecture): boolean => layers.some(isRouted);
