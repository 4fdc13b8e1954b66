// For tests of optimizers: a parameter with its rule and state, stepped by given gradients.
import { seedFor } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { dtype, fromArray, type Tensor, to, zeros } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import {
  applyRule,
  elementsOf,
  type Optimizer,
  type ParameterFacts,
  type State,
  type StateLayout,
} from "./optimizer.js";
import { openWeight } from "./weights/weight.js";

/** A hidden matrix, a stack of them or a vector, by its shape, unless `changes` say otherwise. */
export function factsOf(shape: number[], changes: Partial<ParameterFacts> = {}): ParameterFacts {
  const columns = shape[shape.length - 1];
  const rows = shape.length > 1 ? shape[shape.length - 2] : 1;
  const matrices = elementsOf(shape) / (rows * columns);
  return { name: "w", shape, kind: shape.length > 1 ? "hidden" : "vector", matrices, rows, columns, ...changes };
}

export interface Stepped {
  parameter: Tensor;
  correction?: Tensor;
  state: State;
  step(gradient: ArrayLike<number>, learningRate: number, gradientScale?: number): void;
}

/** Belongs to the scope around it. */
export function stepped(optimizer: Optimizer, start: Tensor, facts: ParameterFacts, startCorrection?: Tensor): Stepped {
  const [parameter, correction] = [start, startCorrection].map(
    (given) => given && to(given, dtype(given), TEST_DEVICE),
  ) as [Tensor, Tensor?];
  const rule = optimizer.rule(facts);
  const state = initState(rule.layout, TEST_DEVICE);
  let step = 0;
  return {
    parameter,
    correction,
    state,
    step: (gradient, learningRate, gradientScale = 1) =>
      scope(() =>
        applyRule(
          rule,
          openWeight(parameter, { correction, seed: seedFor(++step) }),
          fromArray(gradient, facts.shape, "float32", TEST_DEVICE),
          state,
          { step, learningRate, gradientScale },
        ),
      ),
  };
}

/** Sines, as in test/golden/make_optim.py, rounded to float32. */
export const numbers = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.fround(Math.sin((i + 1) * 12.9898 + seed * 78.233)));

/** State before the first step; the caller frees it. */
export function initState(layout: StateLayout, device: string): State {
  return Object.fromEntries(
    Object.entries(layout).map(([name, { shape, dtype }]) => [name, zeros([...shape], dtype, device)]),
  );
}
