// What every optimiser offers: state per parameter, an update in place, and how many bytes its state takes. The state's
// tensors belong to whoever called `init`.
import type { Tensor } from "../torch/tensor.js";

export type State = Record<string, Tensor>;

export interface Update {
  /** 1 for the first step. */
  step: number;
  learningRate: number;
  /** Factor on the gradient, from clipping. */
  gradientScale: number;
  /** Whether weight decay applies: to matrices, not to norms and biases. */
  decay: boolean;
}

export interface Optimizer {
  readonly name: string;
  init(parameter: Tensor): State;
  /** Updates the parameter and its state in place; the gradient may be overwritten. */
  update(parameter: Tensor, gradient: Tensor, state: State, update: Update): void;
  /** State bytes for a parameter of this many elements. */
  stateBytes(elements: number): number;
}
