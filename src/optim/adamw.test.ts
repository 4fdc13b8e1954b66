// AdamW against its equations in float64, stochastic rounding against its promise, and what is independent of tiles.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cast, normal_ } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { dtype, fromArray, full, toArray, zeros } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { adamw } from "./adamw.js";
import { roundStochastically } from "./weights/rounding.js";
import { factsOf, stepped } from "./testing-rules.js";

const SETTINGS = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

test("ten steps agree with the published equations computed in float64", () => {
  scope(() => {
    const w = [0.5, -1.25, 3, 0.001];
    const m = [0, 0, 0, 0];
    const v = [0, 0, 0, 0];
    const run = stepped(adamw(SETTINGS), fromArray(w, [2, 2], "float32"), factsOf([2, 2]));
    for (let step = 1; step <= 10; step++) {
      const g = w.map((_, i) => Math.sin(step * (i + 1)) * 10 ** (i - 2));
      g.forEach((gradient, i) => {
        w[i] -= 0.01 * SETTINGS.weightDecay * w[i];
        m[i] = 0.9 * m[i] + 0.1 * gradient;
        v[i] = 0.95 * v[i] + 0.05 * gradient ** 2;
        w[i] -= (0.01 * (m[i] / (1 - 0.9 ** step))) / (Math.sqrt(v[i] / (1 - 0.95 ** step)) + 1e-8);
      });
      run.step(g, 0.01);
    }
    toArray(run.parameter).forEach((value, i) =>
      assert.ok(Math.abs(value - w[i]) < 2e-6 * Math.max(1, Math.abs(w[i])), `${value} ${w[i]}`),
    );
  });
});

// The step of bfloat16 above 1.
const ULP = 2 ** -7;
const rounded = (value: number, count: number, seed: number): number[] => {
  const into = zeros([count], "bfloat16", TEST_DEVICE);
  roundStochastically(full([count], value, "float32", TEST_DEVICE), into, seed, 0);
  return toArray(into);
};
const meanOf = (values: number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;

test("stochastic rounding is unbiased, lands on neighbours only, and keeps what bfloat16 can hold", () => {
  scope(() => {
    for (const value of [1 + 0.3 * ULP, 1 + 0.9 * ULP]) {
      for (const sign of [1, -1]) {
        const values = rounded(sign * value, 200_000, 3).map((each) => sign * each);
        assert.deepEqual([...new Set(values)].sort(), [1, 1 + ULP]);
        assert.ok(Math.abs((meanOf(values) - value) / ULP) < 0.005, `mean ${meanOf(values)}, value ${value}`);
      }
    }
    setSeed(3);
    const exact = cast(normal_(zeros([1000], "float32", TEST_DEVICE), 0, 1), "bfloat16");
    const again = zeros([1000], "bfloat16", TEST_DEVICE);
    roundStochastically(cast(exact, "float32"), again, 3, 0);
    assert.deepEqual(toArray(again), toArray(exact));
  });
});

const correlation = (a: number[], b: number[]): number =>
  meanOf(a.map((each, i) => (each - 0.3) * (b[i] - 0.3))) / (0.3 * 0.7);
const upsOf = (count: number, seed: number): number[] =>
  rounded(1 + 0.3 * ULP, count, seed).map((each) => Number(each > 1));

test("roundings of neighbours, and of one element in steps and parameters one after the other, are independent", () => {
  scope(() => {
    const many = upsOf(200_000, 5);
    // Neighbours, elements of a row and the next, and what lies apart by powers of two.
    for (const apart of [1, 2, 3, 16, 256, 2048, 4096, 65_536])
      assert.ok(Math.abs(correlation(many.slice(apart), many)) < 0.015, `${apart} apart`);
    // Seeds as a run has them, and seeds that differ in one bit.
    const seeds = [0, 1, 2].flatMap((step) => [0, 1].map((place) => seedFor(seedFor(1, step, 5), place)));
    for (const seed of [...seeds, 5 ^ 1, 5 ^ 1024, 5 + 2 ** 32, 5 + 2 ** 47])
      assert.ok(Math.abs(correlation(upsOf(200_000, seed), many)) < 0.015, `seed ${seed}`);
    const steps = Array.from({ length: 4000 }, (_, step) => upsOf(2, seedFor(seedFor(1, step, 5), 0)));
    const [first, second] = [0, 1].map((element) => steps.map((step) => step[element]));
    for (const ups of [first, second])
      assert.ok(Math.abs(meanOf(ups) - 0.3) < 0.03, `up in ${meanOf(ups)} of the steps`);
    assert.ok(Math.abs(correlation(first.slice(1), first)) < 0.06, "a step and the next");
    assert.ok(Math.abs(correlation(first.slice(1), second)) < 0.06, "a step and the next, neighbours");
  });
});

test("bfloat16 weights move under updates far below their rounding step, and repeat with the seed", () => {
  const run = (): number[] =>
    scope(() => {
      const moved = stepped(adamw({ ...SETTINGS, weightDecay: 0 }), full([2, 256], 1, "bfloat16"), factsOf([2, 256]));
      for (let step = 1; step <= 100; step++) moved.step(Array(512).fill(1), 1e-4);
      assert.equal(dtype(moved.parameter), "bfloat16");
      return toArray(moved.parameter);
    });
  const moved = run();
  const mean = moved.reduce((sum, value) => sum + value, 0) / moved.length;
  assert.ok(Math.abs(mean - 0.99) < 0.001, `100 steps of 1e-4 lead from 1 to ${mean}`);
  assert.deepEqual(run(), moved);
});
