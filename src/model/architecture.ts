// What a model is, and nothing of training: its layers, each of two branches, its parameters with their names on disk, and what
// every micro-batch carries through it. A family makes one from config.json; layers/ has the branches. Interfaces alone.
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
  /** Of the layers that route; 0 experts where none does. */
  experts: ExpertSizes;
  /** The tables of positions that attention takes from the context, by their index. */
  rotary: Rotary[];
  scales: Scales;
  layers: Layer[];
  outer: OuterParameters;
  /** x_TD -> norm(x) in `computeDtype`, in front of the head. */
  finalNorm(weight_D: Tensor, x_TD: Tensor, computeDtype: DType): Tensor;
  /** Names on disk of tensors that no forward pass here uses, and that a copy of the model keeps: prediction layers, towers. */
  passThrough?: RegExp;
  /** Which adapters the blocks have, where they run on streams of half the width. */
  adapters?: "layer" | "stream";
}

export interface ExpertSizes {
  count: number;
  perToken: number;
  /** Inner width of one. */
  width: number;
}

/** Embedding, final norm and head under their names on disk; the head is null when tied to the embedding. */
export interface OuterParameters {
  embedding: ParameterSpec;
  norm: ParameterSpec;
  head: ParameterSpec | null;
}

/** Factors outside the layers; what gradients they bring is in scales.ts. */
export interface Scales {
  /** Multiplies embedded tokens. */
  embedding: number;
  /** Multiplies logits. */
  logits: number;
  /** c of logits c tanh(z / c), behind the factor; null for none. */
  softCap: number | null;
}

export interface Layer {
  /** Layers of one kind have parameters of the same shapes and do the same work: one can stand for another in a plan. */
  kind: string;
  /** Prefix of its names on disk. */
  prefix: string;
  attention: Branch;
  feedForward: Branch;
  /** Those that let its branches run on streams of half the width, where it has any; see adapters.ts. */
  adapters?: ParameterSpec[];
}

/** A function of the residual stream whose value is added to it. */
export interface Branch {
  /** What it is, in words that are equal for branches of equal work and shapes. */
  kind: string;
  /** In the order of the forward pass. */
  parameters: ParameterSpec[];
  /** What it was made from, for who describes a model. */
  settings: object;
  /** Of attention: heads, which several ranks can share out; those of keys and values can be repeated for some, unless they are part of a state. */
  heads?: { query: number; keyValue: number; areStates?: true };
  /**
   * x_TD -> the addition, in the dtype of x. Attention takes keys and values from `memory_TD` where it is given; feed-forward
   * treats each token by itself.
   */
  evaluate(weights: Weights, x_TD: Tensor, context: Context, memory_TD?: Tensor): Tensor;
  /** Of a layer that routes. */
  experts?(weights: Weights): Experts;
}

/** How layers that route lie on disk: as models are released, or stacked as transformers 5 has them in memory. */
export type Layout = "per-expert" | "fused";

export interface ParameterSpec {
  /** The name without the layer's prefix, in memory, in messages and in states. */
  name: string;
  shape: number[];
  init: "normal" | "ones" | "zeros";
  /** The name on disk in a layout, where it is another one. */
  onDisk?: Partial<Record<Layout, string>>;
  /** Whether these weights choose the experts. */
  router?: true;
  /** Whether a product with it is made in float32, whatever the compute dtype. */
  wide?: true;
  /** No weight: float32 wherever it is, whatever dtype weights have, and never trained; it has no gradient, no norm and no optimizer state. */
  buffer?: true;
  /** Stacked over experts. */
  experts?: StackedExperts;
  /** Not of the pretrained model: how it starts, and which stream it serves. */
  adapter?: { init: "random" | "identity"; stream: 1 | 2 };
}

export interface StackedExperts {
  /** How one expert's matrices are named on disk; none where they are stacked there too. */
  template?: string;
  /** The matrices that are stacked in rows, in their order. */
  parts: string[];
  /**
   * How one expert's lies on disk, where that is not as in memory: there it has this `shape`, and seen as `seen` its first and last
   * dimension are swapped. For those without a template.
   */
  turned?: { shape: number[]; seen: number[] };
}

/** A block's parameters in compute form: matrices by name, stacked ones as one tensor per expert, in the dtype they are stored in. */
export interface Weights {
  get(name: string): Tensor;
  experts(name: string): Tensor[];
  /** x W' + b with NAME.weight and, where there is one, NAME.bias: the one door for a product with a weight. */
  linear(name: string, x_TD: Tensor): Tensor;
  /** Where rows of experts are kept instead of gradients made of them, in what is recorded from now on; without it, gradients are made. */
  readonly expertRows?: ExpertRows | null;
  /** Which of the experts' gradients hold something when their backward pass comes; without it, all do. See `groupedExperts`. */
  readonly written?: Tensor | null;
  /** Where rows of tokens go, if not all experts are here. */
  readonly elsewhere?: ExpertsElsewhere | null;
}

/** A layer's parameters in the order of the forward pass. */
export const layerParameters = ({ adapters = [], attention, feedForward }: Layer): ParameterSpec[] => [
  ...adapters,
  ...attention.parameters,
  ...feedForward.parameters,
];

/** Whether its tokens choose among experts. */
export const isRouted = ({ feedForward }: Layer): boolean => feedForward.parameters.some(({ router }) => router);

export const hasExperts = ({ layers }: Architecture): boolean => layers.some(isRouted);
