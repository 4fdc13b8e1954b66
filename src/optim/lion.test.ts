// Lion against its equations in float64, written here by themselves, and its limits.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../torch/scope.js";
import { fromArray, toArray } from "../torch/tensor.js";
import { lion } from "./lion.js";
import { layoutBytes } from "./optimizer.js";
import { factsOf, numbers, stepped } from "./testing-rules.js";

const SETTINGS = { beta1: 0.9, beta2: 0.99, weightDecay: 0.1 };
const RATE = 0.01;

/** Algorithm 2 of the paper for one weight; also the smallest |b1 m + (1 - b1) g|, whose sign rounding must not decide. */
function reference(start: number, gradients: number[], decay: number): { w: number; m: number; smallest: number } {
  let [w, m, smallest] = [start, 0, Infinity];
  for (const g of gradients) {
    const c = 0.9 * m + (1 - 0.9) * g;
    w -= RATE * (Math.sign(c) + decay * w);
    m = 0.99 * m + (1 - 0.99) * g;
    smallest = Math.min(smallest, Math.abs(c));
  }
  return { w, m, smallest };
}

for (const [label, shape, decay] of [
  ["a matrix", [12, 8], 0.1],
  ["a stack of experts", [3, 6, 10], 0.1],
  ["a vector, which does not decay", [50], 0],
] as [string, number[], number][]) {
  test(`${label}: weights and moment after seven steps are those of the equations`, () => {
    scope(() => {
      const count = shape.reduce((product, size) => product * size);
      const start = numbers(count, 0).map((value) => Math.fround(value * 0.05));
      const run = stepped(lion(SETTINGS), fromArray(start, shape, "float32"), factsOf(shape));
      const gradients = Array.from({ length: 7 }, (_, step) => numbers(count, step + 1));
      for (const gradient of gradients) run.step(gradient, RATE);
      const [weights, moments] = [toArray(run.parameter), toArray(run.state.m)];
      for (let i = 0; i < count; i++) {
        const { w, m, smallest } = reference(
          start[i],
          gradients.map((gradient) => gradient[i]),
          decay,
        );
        assert.ok(smallest > 1e-7, `element ${i} is no test: ${smallest}`);
        assert.ok(Math.abs(weights[i] - w) < 1e-7, `weight ${i}: ${weights[i]}, expected ${w}`);
        assert.ok(Math.abs(moments[i] - m) < 1e-7, `moment ${i}: ${moments[i]}, expected ${m}`);
      }
    });
  });
}

test("a step is as long as the learning rate, whatever the gradient's size; zero gradients move nothing", () => {
  scope(() => {
    const gradient = [1e-30, -1e-3, 0, 1e30, -5, 0];
    const run = stepped(
      lion({ ...SETTINGS, weightDecay: 0 }),
      fromArray([0, 0, 0, 0, 0, 0], [2, 3], "float32"),
      factsOf([2, 3]),
    );
    run.step(gradient, 0.25);
    assert.deepEqual(
      toArray(run.parameter).map((value) => value + 0),
      [-0.25, 0.25, 0, -0.25, 0.25, 0],
    );
  });
});

test("its state is one float32 moment", () => {
  const { layout } = lion(SETTINGS).rule(factsOf([4, 16, 8]));
  assert.deepEqual(layout, { m: { shape: [4, 16, 8], dtype: "float32" } });
  assert.equal(layoutBytes(layout), 4 * 4 * 16 * 8);
});
