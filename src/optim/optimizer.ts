// What every optimizer offers: a rule for each parameter, which says what state it keeps and how it updates in place.
// Layouts are plain shapes, so state can be planned without being made. Whoever made state tensors owns them.
import { mulScalar_ } from "../torch/ops.js";
import { type DType, DTYPES, type Tensor } from "../torch/tensor.js";
import type { StoredWeight, Weight } from "./weights/weight.js";

/** What an optimizer may know of a parameter before it exists. */
export interface ParameterFacts {
  /** Name on disk; fused for stacked experts. */
  name: string;
  shape: number[];
  /**
   * What it does in the network, since some optimizers treat these apart: `hidden` is a matrix of a block, `vector` a
   * norm or bias.
   */
  kind: "hidden" | "embedding" | "head" | "vector";
  /**
   * Number of matrices side by side in memory: for stacked experts one per expert and projection, as checkpoints name
   * them; else 1.
   */
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
  /**
   * Whether an element's update depends on no other element, except those of its block of state. Then any rows may be
   * updated alone.
   */
  readonly elementwise?: true;
  /**
   * Updates the weight and the state in place; may overwrite the gradient (float32). All three are whole, or cut to the
   * same matrices; cut state is a flat row of elements.
   */
  update(weight: Weight, gradient: Tensor, state: State, update: Update): void;
  /**
   * The same by the addon's kernels, which also apply the gradient's scale. `update` is the reference that the kernels
   * are tested by, and runs where there are none. Code that wraps a rule must wrap both, or leave this out.
   */
  kernel?(weight: StoredWeight, gradient: Tensor, state: State, update: ScaledUpdate): void;
}

export interface Optimizer {
  readonly name: string;
  rule(parameter: ParameterFacts): Rule;
}

/** Updates by a rule: by its kernels, if it has some that can change the weight. */
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

/** The factor of decoupled decay on a weight in one step, 1 - lr decay; 1 for norms and biases. */
export const keptOf = ({ kind }: ParameterFacts, { learningRate }: Update, weightDecay: number): number =>
  kind === "vector" ? 1 : 1 - learningRate * weightDecay;

export const elementsOf = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1);

export function layoutBytes(layout: StateLayout): number {
  return Object.values(layout).reduce((total, { shape, dtype }) => total + elementsOf(shape) * DTYPES[dtype], 0);
}
