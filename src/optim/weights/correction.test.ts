// Weights of 24 bits in a bfloat16 and an int8: what they hold, what the network sees, and what becomes of small updates.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cast } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { fromArray, full, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { adamw } from "../adamw.js";
import { joinCorrection, splitCorrection } from "./correction.js";
import { factsOf, numbers, stepped } from "../testing-rules.js";

/** The nearest number with 16 significant bits, halves away from zero. */
function nearest24(value: number): number {
  if (value === 0) return 0;
  const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 15);
  return Math.sign(value) * Math.floor(Math.abs(value) / step + 0.5) * step;
}

// Every size and sign, powers of two and their neighbours, where the nearest bfloat16 has another exponent.
const VALUES = [
  ...numbers(4000, 3).map((value, i) => Math.fround(value * 10 ** ((i % 60) - 30))),
  ...[1, 2, 0.5, 256, 2 ** -20].flatMap((power) =>
    [-1, 1].flatMap((sign) =>
      [2 ** -24, 2 ** -17, 2 ** -16, 2 ** -9, 0].map((part) => Math.fround(sign * power * (1 - part))),
    ),
  ),
  0,
];

test("bfloat16 and correction hold the value rounded to 24 bits, and the bfloat16 is the nearest to it", () => {
  scope(() => {
    const count = VALUES.length;
    const [weight, correction] = [zeros([count], "bfloat16", TEST_DEVICE), zeros([count], "int8", TEST_DEVICE)];
    splitCorrection(fromArray(VALUES, [count], "float32", TEST_DEVICE), weight, correction);
    const joined = joinCorrection(weight, correction);
    const held = toArray(joined);
    held.forEach((value, i) => assert.equal(value, nearest24(VALUES[i]), `${VALUES[i]}`));
    const nearest = toArray(cast(joined, "bfloat16"));
    toArray(weight).forEach((value, i) => {
      // On a tie the engine takes the even neighbour, and the correction the farther from zero.
      if (value !== nearest[i]) assert.equal(Math.abs(value - held[i]), Math.abs(nearest[i] - held[i]), `${held[i]}`);
    });
    assert.ok(toArray(correction).some((value) => value < -100) && toArray(correction).some((value) => value > 100));
  });
});

test("held values survive being read and stored again, bit for bit", () => {
  scope(() => {
    const count = VALUES.length;
    const [weight, correction] = [zeros([count], "bfloat16", TEST_DEVICE), zeros([count], "int8", TEST_DEVICE)];
    splitCorrection(fromArray(VALUES, [count], "float32", TEST_DEVICE), weight, correction);
    const before = [toArray(weight), toArray(correction)];
    splitCorrection(joinCorrection(weight, correction), weight, correction);
    assert.deepEqual([toArray(weight), toArray(correction)], before);
  });
});

test("updates a hundredth of a bfloat16 step add up as they would in float32", () => {
  scope(() => {
    const settings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
    const run = stepped(
      adamw(settings),
      full([64, 64], 1, "bfloat16", TEST_DEVICE),
      factsOf([64, 64]),
      zeros([64, 64], "int8", TEST_DEVICE),
    );
    for (let step = 0; step < 200; step++) run.step(Array(4096).fill(1), 1e-4);
    const values = toArray(run.parameter);
    assert.ok(values.every((value) => value === values[0]));
    assert.ok(Math.abs(values[0] - 0.98) < 2 ** -9, `200 steps of 1e-4 lead from 1 to ${values[0]}`);
  });
});

test("with the same gradients, 24-bit weights stay twenty times nearer to float32 ones than rounding by chance does", () => {
  scope(() => {
    const settings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
    const [start, size] = [fromArray(numbers(4096, 5), [64, 64], "float32", TEST_DEVICE), [64, 64]];
    const run = (type: "float32" | "bfloat16", correction?: Tensor): number[] => {
      setSeed(1);
      const parameter = cast(cast(start, "bfloat16"), type);
      const { step, parameter: weight } = stepped(adamw(settings), parameter, factsOf(size), correction);
      for (let round = 0; round < 50; round++) step(numbers(4096, 100 + round), 1e-3);
      return toArray(correction ? joinCorrection(weight, correction) : weight);
    };
    const exact = run("float32");
    const distance = (other: number[]): number => Math.hypot(...other.map((value, i) => value - exact[i]));
    const [corrected, rounded] = [
      distance(run("bfloat16", zeros(size, "int8", TEST_DEVICE))),
      distance(run("bfloat16")),
    ];
    assert.ok(20 * corrected < rounded, `${corrected} with the correction, ${rounded} without`);
  });
});
