import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../torch/scope.js";
import { fromArray } from "../torch/tensor.js";
import { clipFactor, gradientNorm } from "./clip.js";
import { gammaAt, learningRateAt, type Schedule } from "./schedule.js";

const near = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) < 1e-12, `${actual} != ${expected}`);

test("warm-up rises to the peak, then each shape falls towards its share of it and no step is idle", () => {
  const schedule: Schedule = { type: "cosine", peak: 2, warmupSteps: 4, totalSteps: 11, minRatio: 0.1 };
  near(learningRateAt(1, schedule), 0.5);
  near(learningRateAt(4, schedule), 2);
  near(learningRateAt(8, schedule), 2 * 0.55);
  near(learningRateAt(11, schedule), 2 * (0.1 + 0.45 * (1 + Math.cos((7 * Math.PI) / 8))));
  near(learningRateAt(8, { ...schedule, type: "linear", minRatio: 0 }), 1);
  near(learningRateAt(11, { ...schedule, type: "linear", minRatio: 0 }), 0.25);
  near(learningRateAt(1, { ...schedule, warmupSteps: 0, totalSteps: 1, minRatio: 0 }), 1);
  near(learningRateAt(9, { ...schedule, type: "constant" }), 2);
  near(learningRateAt(1, { ...schedule, type: "constant", warmupSteps: 0 }), 2);
});

test("constant_with_warmup is constant; warmup_stable_decay stays at the peak and falls at the end alone, as in transformers", () => {
  const schedule: Schedule = {
    type: "warmup_stable_decay",
    peak: 2,
    warmupSteps: 2,
    totalSteps: 10,
    minRatio: 0.1,
    decayRatio: 0.4,
  };
  const rates = Array.from({ length: 10 }, (_, i) => learningRateAt(i + 1, schedule));
  assert.deepEqual(rates.slice(0, 6), [1, 2, 2, 2, 2, 2]);
  for (const [i, rate] of rates.slice(6).entries())
    near(rate, 2 * (0.1 + 0.45 * (1 + Math.cos((Math.PI * (i + 1)) / 5))));
  // At least one step falls, and none does before the warm-up ends.
  assert.deepEqual(
    [0.01, 1].map((decayRatio) => learningRateAt(9, { ...schedule, decayRatio }) === 2),
    [true, false],
  );
  near(learningRateAt(10, { ...schedule, decayRatio: 0.01 }), 2 * 0.55);
  near(learningRateAt(3, { ...schedule, decayRatio: 1 }), learningRateAt(3, { ...schedule, type: "cosine" }));
  for (const step of [1, 2, 3, 9]) {
    const [one, other] = (["constant", "constant_with_warmup"] as const).map((type) =>
      learningRateAt(step, { ...schedule, type }),
    );
    assert.equal(one, other);
  }
});

test("norms run over all tensors of a block; clipping scales to the limit and never up", () => {
  scope(() => {
    near(gradientNorm([fromArray([3, 0], [2], "float32"), fromArray([4], [1], "float32")]), 5);
  });
  near(clipFactor(5, 1) * (5 + 1e-6), 1);
  assert.equal(clipFactor(0.5, 1), 1);
  assert.equal(clipFactor(5, 0), 1);
});

test("gamma is halved until its end, each value for as many steps", () => {
  const gammas = (plan: Partial<Parameters<typeof gammaAt>[1]>): number[] =>
    Array.from({ length: 10 }, (_, i) =>
      gammaAt(i + 1, { gamma: 0.25, final: 0.0625, share: 0.4, totalSteps: 10, ...plan }),
    );
  assert.deepEqual(gammas({}), [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]);
  assert.deepEqual(gammas({ final: 0 }), Array(10).fill(0.25));
  assert.deepEqual(gammas({ gamma: -1, final: -0.5, share: 0.1 }), [...Array(9).fill(-1), -0.5]);
});
