// What every optimiser offers: for a parameter, a rule: which state it keeps and how it updates in place. Layouts are
// plain shapes, so that state can be planned without being made. State tensors belong to whoever made them.
import { mulScalar_ } from "../torch/ops.js";
import { type DType, DTYPES, type Tensor } from "../torch/tensor.js";
import type { StoredWeight, Weight } from "./weights/weight.js";

/** What an optimiser may ask of a parameter before it exists. */
export interface ParameterFacts {
  /** Name on disk; fused for stacked experts. */
  name: string;
  shape: number[];
  /**
   * What it does in the network, because some optimisers treat these apart: `hidden` are the matrices of the blocks,
   * `vector` norms and biases.
   */
  kind: "hidden" | "embedding" | "head" | "vector";
  /** Matrices side by side in memory: for stacked experts one per expert and projection, as checkpoints name them; else 1. */
  matrices: number;
  /** Rows and columns of one matrix; a vector is one row. */
  rows: number;
  columns: number;
}

export type StateLayout = Record<string, { shape: readonly number[]; dtype: DType }>;
export type State = Record<string, Tensor>;

export interface Update {
  /** 1 for the first step. */
  step: number;
  learningRate: number;
}

export interface ScaledUpdate extends Update {
  /** Factor on the gradient. */
  gradientScale: number;
}

/** How one parameter is updated. */
export interface Rule {
  /** The state tensors by name, all zero before the first step. */
  readonly layout: StateLayout;
  /** Whether an element's update depends on no other, but for those that share a block of state: then any rows may be updated by themselves. */
  readonly elementwise?: true;
  /**
   * Updates the weight and the state in place; the gradient (float32) may be overwritten. All three are the whole parameter's, or those
   * of some of its matrices side by side, state then as a row of elements.
   */
  update(weight: Weight, gradient: Tensor, state: State, update: Update): void;
  /**
   * The same by the addon's kernels, which multiply the gradient by its scale on the way; `update` is then what it is compared with, and
   * what runs where there are none. Who wraps a rule wraps both, or leaves this out.
   */
  kernel?(weight: StoredWeight, gradient: Tensor, state: State, update: ScaledUpdate): void;
}

export interface Optimizer {
  readonly name: string;
  rule(parameter: ParameterFacts): Rule;
}

/** Updates by a rule: by its kernels where it has some that know the weight. */
export function applyRule(
  rule: Rule,
  weight: Weight,
  gradient: Tensor,
  state: State,
  { gradientScale, ...update }: ScaledUpdate,
): void {
  if (rule.kernel !== undefined && isStored(weight)) {
    rule.kernel(weight, gradient, state, { gradientScale, ...update });
    return;
  }
  if (gradientScale !== 1) mulScalar_(gradient, gradientScale);
  rule.update(weight, gradient, state, update);
}

const isStored = (weight: Weight): weight is StoredWeight => weight.stored !== null;

/** What decoupled decay leaves of a weight in a step; norms and biases do not decay. */
export const keptOf = ({ kind }: ParameterFacts, { learningRate }: Update, weightDecay: number): number =>
  kind === "vector" ? 1 : 1 - learningRate * weightDecay;

export const elementsOf = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1);

export function layoutBytes(layout: StateLayout): number {
  return Object.values(layout).reduce((total, { shape, dtype }) => total + elementsOf(shape) * DTYPES[dtype], 0);
}
