// AdamW against its equations in float64, stochastic rounding against its promise, and what is independent of tiles.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cast, normal_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { dtype, fromArray, full, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { adamw } from "./adamw.js";
import { roundStochastically } from "./rounding.js";
import { factsOf, numbers, stepped } from "./testing-rules.js";
import { range } from "./tiles.js";

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

test("stochastic rounding is unbiased, lands on neighbours only, and keeps what bfloat16 can hold", () => {
  scope(() => {
    setSeed(3);
    const value = 1 + 0.3 * 2 ** -7;
    const count = 200_000;
    const rounded = zeros([count], "bfloat16");
    roundStochastically(full([count], value, "float32"), rounded);
    const values = toArray(rounded);
    assert.deepEqual([...new Set(values)].sort(), [1, 1 + 2 ** -7]);
    const mean = values.reduce((sum, each) => sum + each, 0) / count;
    assert.ok(Math.abs((mean - value) / 2 ** -7) < 0.005, `mean ${mean}, value ${value}`);
    const exact = cast(normal_(zeros([1000], "float32"), 0, 1), "bfloat16");
    const again = zeros([1000], "bfloat16");
    roundStochastically(cast(exact, "float32"), again);
    assert.deepEqual(toArray(again), toArray(exact));
    const negative = zeros([count], "bfloat16");
    roundStochastically(full([count], -value, "float32"), negative);
    assert.ok(Math.abs((toArray(negative).reduce((sum, each) => sum + each, 0) / count + value) / 2 ** -7) < 0.005);
  });
});

test("on the CPU, rounding in tiles of a multiple of four draws what rounding at once does", () => {
  scope(() => {
    const values = (): Tensor => fromArray(numbers(5000, 1), [5000], "float32");
    const [whole, tiled] = [zeros([5000], "bfloat16"), zeros([5000], "bfloat16")];
    setSeed(5);
    roundStochastically(values(), whole);
    setSeed(5);
    const [x, y] = [values(), tiled];
    for (let start = 0; start < 5000; start += 1500) {
      const count = Math.min(1500, 5000 - start);
      roundStochastically(range(x, start, count), range(y, start, count));
    }
    assert.deepEqual(toArray(tiled), toArray(whole));
  });
});

test("bfloat16 weights move under updates far below their rounding step, and repeat with the seed", () => {
  const run = (): number[] =>
    scope(() => {
      const moved = stepped(adamw({ ...SETTINGS, weightDecay: 0 }), full([2, 256], 1, "bfloat16"), factsOf([2, 256]));
      for (let step = 1; step <= 100; step++) {
        setSeed(step);
        moved.step(Array(512).fill(1), 1e-4);
      }
      assert.equal(dtype(moved.parameter), "bfloat16");
      return toArray(moved.parameter);
    });
  const moved = run();
  const mean = moved.reduce((sum, value) => sum + value, 0) / moved.length;
  assert.ok(Math.abs(mean - 0.99) < 0.001, `100 steps of 1e-4 lead from 1 to ${mean}`);
  assert.deepEqual(run(), moved);
});
