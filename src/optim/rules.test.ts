// What holds for every optimiser: stacked matrices are updated as each by itself, tiles bound the workspace, zero
// gradients are harmless, and the state is as large as its layout says.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger, resetPeak } from "../torch/memory.js";
import { normal_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { byteSize, type DType, fromArray, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { galoreAdamw } from "./galore.js";
import { orthogonalize } from "./muon.js";
import { applyRule, layoutBytes } from "./optimizer.js";
import { makeOptimizer, OPTIMIZER_NAMES } from "./registry.js";
import { factsOf, initState, numbers, stepped } from "./testing-rules.js";
import { openWeight } from "./weights/weight.js";

const adam = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const OPTIMIZERS = OPTIMIZER_NAMES.map((optimizer) =>
  makeOptimizer({ optimizer, weight_decay: 0.1, galore_rank: 8, galore_update_gap: 2 }),
);

for (const optimizer of OPTIMIZERS) {
  test(`${optimizer.name}: three experts in one tensor, gate above up, are six matrices each by itself`, () => {
    scope(() => {
      // Whole blocks of 256 to a matrix, so that 8-bit scales are not shared either.
      const [experts, rows, columns] = [3, 64, 64];
      const size = [experts, 2 * rows, columns];
      const count = 2 * experts * rows * columns;
      const facts = factsOf(size, { matrices: 2 * experts, rows, columns });
      const stack = stepped(optimizer, fromArray(numbers(count, 0), size, "float32"), facts);
      const one = rows * columns;
      const start = numbers(count, 0);
      const singles = Array.from({ length: 2 * experts }, (_, i) =>
        stepped(
          optimizer,
          fromArray(start.slice(i * one, (i + 1) * one), [rows, columns], "float32"),
          factsOf([rows, columns]),
        ),
      );
      for (let step = 1; step <= 4; step++) {
        // Matrices of unlike size; the second has no tokens at first.
        const gradient = numbers(count, step).map((value, i) => {
          const matrix = Math.floor(i / one);
          return matrix === 1 && step < 3 ? 0 : value * 10 ** -matrix;
        });
        stack.step(gradient, 0.01);
        for (const [i, single] of singles.entries()) single.step(gradient.slice(i * one, (i + 1) * one), 0.01);
      }
      const together = toArray(stack.parameter);
      assert.ok(together.every(Number.isFinite));
      const alone = singles.flatMap(({ parameter }) => toArray(parameter));
      assert.deepEqual(together, alone);
      assert.ok(together.every((value, i) => value !== start[i]));
    });
  });

  test(`${optimizer.name}: its layouts are what is allocated, for every kind of parameter`, () => {
    for (const facts of [
      factsOf([3, 128, 64]),
      factsOf([100, 64]),
      factsOf([64, 4]),
      factsOf([100, 64], { kind: "embedding" }),
      factsOf([100, 64], { kind: "head" }),
      factsOf([5000]),
    ]) {
      const { layout } = optimizer.rule(facts);
      const before = ledger().liveBytes;
      scope(() => {
        const state = initState(layout, TEST_DEVICE);
        assert.equal(
          Object.values(state).reduce((total, tensor) => total + byteSize(tensor), 0),
          layoutBytes(layout),
        );
        if (TEST_DEVICE === "cpu")
          assert.equal(ledger().liveBytes - before, layoutBytes(layout), "bytes as the allocator counts them");
      });
    }
  });

  for (const [dtype, corrected] of [
    ["float32", false],
    ["bfloat16", false],
    ["bfloat16", true],
  ] as [DType, boolean][]) {
    test(`${optimizer.name}, ${dtype}${corrected ? " corrected" : ""}: the workspace does not grow with the number of matrices`, {
      skip: TEST_DEVICE !== "cpu" && "tiles are larger there",
    }, () => {
      const workspace = (experts: number): number =>
        scope(() => {
          const size = [experts, 64, 16_384];
          const tensor = (type: DType): Tensor => normal_(zeros(size, type), 0, 0.1);
          const facts = factsOf(size);
          const rule = optimizer.rule(facts);
          const [parameter, gradient, state] = [tensor(dtype), tensor("float32"), initState(rule.layout, TEST_DEVICE)];
          const weight = openWeight(parameter, { correction: corrected ? zeros(size, "int8") : undefined, seed: 1 });
          const before = ledger().liveBytes;
          resetPeak();
          applyRule(rule, weight, gradient, state, { step: 1, learningRate: 0.01, gradientScale: 1 });
          return ledger().peakBytes - before;
        });
      // A matrix is a tile, and wide, so that what grows with its smaller side's cube is soon made. GaLore asks for the largest entry of each projection.
      const [two, four] = [workspace(2), workspace(4)];
      assert.ok(four <= two + (optimizer.name === "galore_adamw" ? 4 * 64 * 8 * 4 : 0), `${two} then ${four} bytes`);
      assert.ok(two <= 60 * 2 ** 20, `${two} bytes`);
    });
  }
}

test("bfloat16 weights end where float32 ones do, on average, with every optimiser", () => {
  for (const optimizer of OPTIMIZERS) {
    scope(() => {
      const size = [64, 64];
      const start = numbers(4096, 0).map((value) => Math.fround(value * 0.1));
      const [exact, rounded] = (["float32", "bfloat16"] as const).map((type) =>
        stepped(optimizer, fromArray(start, size, type), factsOf(size)),
      );
      setSeed(1);
      for (let step = 1; step <= 10; step++) {
        for (const run of [exact, rounded]) run.step(numbers(4096, step), 1e-3);
      }
      const [a, b] = [exact, rounded].map(({ parameter }) => toArray(parameter));
      const mean = a.reduce((total, value, i) => total + (b[i] - value), 0) / 4096;
      // Ten roundings of numbers below 0.1, each off by at most 2^-11: their mean over 4096 elements.
      assert.ok(Math.abs(mean) < 5e-5, `${optimizer.name}: off by ${mean} on average`);
    });
  }
});

test("muon's direction has singular values near one, whatever the gradient's", () => {
  scope(() => {
    const wide = normal_(zeros([20, 50], "float32", TEST_DEVICE), 0, 1e-6);
    // The rows of an orthogonal 20 x 50 matrix have length one; Newton-Schulz leaves singular values from 0.7 to 1.2, in either type.
    const [rows, half] = (["float32", "bfloat16"] as const).map((type) => toArray(orthogonalize(wide, type)));
    for (const values of [rows, half]) {
      for (let row = 0; row < 20; row++) {
        const length = Math.sqrt(
          values.slice(row * 50, (row + 1) * 50).reduce((total, value) => total + value * value, 0),
        );
        assert.ok(length > 0.6 && length < 1.3, `row ${row} has length ${length}`);
      }
    }
    // Five iterations multiply the rounding of bfloat16 (2^-8) by up to a few dozen; how exactly it falls is the processor's matter.
    const off = Math.sqrt(half.reduce((total, value, i) => total + (value - rows[i]) ** 2, 0) / 20);
    assert.ok(off < 0.25, `bfloat16 products are off by ${off}`);
  });
});

test("galore moves a matrix within its directions only, for as long as they are kept", () => {
  scope(() => {
    const size = [48, 32];
    const optimizer = galoreAdamw({ ...adam, weightDecay: 0, rank: 4, updateGap: 5, scale: 1 });
    const run = stepped(optimizer, zeros(size, "float32"), factsOf(size));
    for (let step = 1; step <= 5; step++) run.step(numbers(48 * 32, step), 0.1);
    const moved = toArray(run.parameter);
    const P = toArray(run.state.projection);
    assert.equal(P.length, 32 * 4);
    // w P P' = w: nothing of a row lies outside the span of the four columns of P.
    for (let row = 0; row < 48; row++) {
      const w = moved.slice(row * 32, (row + 1) * 32);
      const low = Array.from({ length: 4 }, (_, r) => w.reduce((total, value, d) => total + value * P[d * 4 + r], 0));
      w.forEach((value, d) =>
        assert.ok(
          Math.abs(value - low.reduce((total, part, r) => total + part * P[d * 4 + r], 0)) < 1e-5,
          `row ${row}, column ${d}: ${value}`,
        ),
      );
    }
    const before = P;
    run.step(numbers(48 * 32, 6), 0.1);
    assert.notDeepEqual(toArray(run.state.projection), before, "new directions with step 6");
  });
});
