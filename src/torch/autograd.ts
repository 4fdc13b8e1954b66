// Automatic differentiation, restricted to what a block needs: a graph is recorded only inside `withGrad`, lives as
// long as a handle of its output, and is consumed by one `backward` or `grad`.
import { native } from "./binding.js";
import { detach as detachOp } from "./ops/views.js";
import type { Tensor } from "./tensor.js";

/** Runs `fn` with gradients recorded. */
export function withGrad<Result>(fn: () => Result): Result {
  const before = native.setGradMode(true);
  try {
    return fn();
  } finally {
    native.setGradMode(before);
  }
}

/** A tensor with the same storage and no graph. Takes one argument, so it can be passed to `map`. */
export const detach = (t: Tensor): Tensor => detachOp(t);

/**
 * A new leaf on the storage of `t`. With `into`, backward adds the leaf's gradient to that tensor in place (it may have
 * a wider dtype); without, `takeGrad` gives the gradient.
 */
export function leaf(t: Tensor, into?: Tensor): Tensor {
  const made = detachOp(t);
  native.requireGrad(made, true);
  if (into !== undefined) native.setGrad(made, into);
  return made;
}

/** Takes the gradient that backward left on a leaf; null if the outputs do not depend on it. */
export const takeGrad = (t: Tensor): Tensor | null => native.takeGrad(t) as Tensor | null;

/** Vector-Jacobian product of `outputs` with `gradients`, added to the leaves' gradients; frees the graph. */
export const backward = (outputs: Tensor[], gradients: Tensor[]): void => native.backward(outputs, gradients);

/** Vector-Jacobian product with respect to `inputs` only; null for an input that no output depends on. */
export const grad = (outputs: Tensor[], inputs: Tensor[], gradients: Tensor[]): (Tensor | null)[] =>
  native.grad(outputs, inputs, gradients) as (Tensor | null)[];

/** From now on backward adds the gradient of leaf `t` to `into`. */
export const setGrad = (t: Tensor, into: Tensor): void => native.setGrad(t, into);
