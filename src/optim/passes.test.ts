// Single passes of the addon against the same arithmetic in the engine's operators, which other devices use: rounding, 8-bit codes and
// scales bit for bit, moments and weights up to the last bits; and for any number of threads the same.
import assert from "node:assert/strict";
import { test } from "node:test";

import { engineInfo, setThreads } from "../torch/device.js";
import { normal_, squareSum } from "../torch/ops.js";
import { onReference } from "../torch/kernels/kernels.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype, fromArray, numel, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { adafactor } from "./adafactor.js";
import { adalomo } from "./adalomo.js";
import { adamw } from "./adamw.js";
import { adamw8bit } from "./adamw8bit.js";
import { BLOCK_ELEMENTS, BlockQuantizer } from "./state/block-quantize.js";
import { gradientNorm } from "./clip.js";
import type { Optimizer } from "./optimizer.js";
import { roundingNoise, roundStochastically } from "./weights/rounding.js";
import { factsOf, stepped } from "./testing-rules.js";

// Two chunks of the addon, the second cut short, in the middle of a block of 8-bit state.
const ELEMENTS = 65_536 + 3000;

const random = (count: number, seed: number, deviation = 1): Tensor => {
  setSeed(seed);
  return normal_(zeros([count], "float32"), 0, deviation);
};

const bothWays = <Result>(run: () => Result): [Result, Result] => [run(), onReference(run)];

test("stochastic rounding has the same bits, tile after tile", () => {
  scope(() => {
    const [ours, theirs] = bothWays(() => {
      setSeed(5);
      const noise = roundingNoise(ELEMENTS, "cpu");
      return [ELEMENTS, 1000, ELEMENTS].map((count, i) => {
        const into = zeros([count], "bfloat16");
        roundStochastically(random(count, 7 + i), into, noise);
        return toArray(into);
      });
    });
    assert.deepEqual(ours, theirs);
  });
});

for (const signed of [true, false]) {
  test(`8-bit codes, scales and what they stand for have the same bits, ${signed ? "signed" : "unsigned"}`, () => {
    scope(() => {
      const values = toArray(random(ELEMENTS, 3, 1e-3)).map((value) => (signed ? value : value * value));
      values.fill(0, 512, 1024);
      const [ours, theirs] = bothWays(() => {
        const [codes, scales] = [zeros([ELEMENTS], "uint8"), zeros([Math.ceil(ELEMENTS / BLOCK_ELEMENTS)], "float32")];
        const quantizer = new BlockQuantizer(signed, "cpu");
        quantizer.encode(fromArray(values, [ELEMENTS], "float32"), codes, scales);
        return [codes, scales, quantizer.decode(codes, scales)].map(toArray);
      });
      assert.deepEqual(ours, theirs);
    });
  });
}

test("a sum of squares is that of float64, and the same for any number of threads", (t) => {
  const { threads } = engineInfo();
  t.after(() => setThreads(threads));
  scope(() => {
    const x = random(3 * ELEMENTS, 11, 1e5);
    const exact = toArray(x).reduce((sum, value) => sum + value * value, 0);
    const sums = [1, 2, 3].map((count) => {
      setThreads(count);
      return squareSum(x);
    });
    assert.ok(Math.abs(sums[0] / exact - 1) < 1e-12);
    assert.deepEqual(new Set(sums).size, 1);
    assert.equal(squareSum(zeros([0], "float32")), 0);
    const [ours, theirs] = bothWays(() => gradientNorm([x, zeros([5], "float32")]));
    assert.ok(Math.abs(ours / theirs - 1) < 1e-5, `${ours} ${theirs}`);
    assert.throws(() => squareSum(zeros([4], "bfloat16")), /expected a dense tensor of Float on the cpu/);
  });
});

const ADAM = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const FACTORED = { decayRate: 0.8, updateClip: 1, weightDecay: 0.1 };
const OPTIMIZERS: Optimizer[] = [
  adamw(ADAM),
  adamw8bit(ADAM),
  adalomo(FACTORED),
  adafactor({ ...FACTORED, scaleParameter: true }),
];
for (const optimizer of OPTIMIZERS) {
  for (const type of ["float32", "bfloat16"] as DType[]) {
    test(`${optimizer.name}, ${type} weights: moments and weights after three steps`, () => {
      scope(() => {
        // One matrix where weights are rounded: several at once have other random bits than one after the other.
        const shape = type === "bfloat16" ? [1, 268, 257] : [2, 134, 257];
        const elements = shape.reduce((product, size) => product * size);
        const [ours, theirs] = bothWays(() => {
          const weights = random(elements, 21);
          const run = stepped(optimizer, fromArray(toArray(weights), shape, type), factsOf(shape));
          for (let step = 1; step <= 3; step++) {
            const gradient = toArray(random(elements, 30 + step, 0.1));
            setSeed(step);
            run.step(gradient, 1e-2);
          }
          return run;
        });
        const apart = (a: Tensor, b: Tensor): number[] => {
          const [one, other] = [toArray(a), toArray(b)];
          return one.map((value, i) => Math.abs(value - other[i]) / Math.max(1e-2, Math.abs(other[i])));
        };
        // A last bit may decide which code a value has, seldom. Weights of 16 bits are rounded by other random bits: by a step or two to either
        // side, and the same in the mean.
        for (const [name, tensor] of [["weights", ours.parameter] as const, ...Object.entries(ours.state)]) {
          const other = name === "weights" ? theirs.parameter : theirs.state[name];
          if (dtype(tensor) === "bfloat16") {
            const reference = toArray(other);
            const steps = toArray(tensor).map((one, i) => {
              const two = reference[i];
              return (one - two) / 2 ** (Math.floor(Math.log2(Math.max(1e-2, Math.abs(two)))) - 7);
            });
            assert.ok(
              steps.every((step) => Math.abs(step) <= 8),
              `${Math.max(...steps.map(Math.abs))} steps`,
            );
            assert.ok(Math.abs(steps.reduce((sum, step) => sum + step, 0) / steps.length) < 0.02);
            continue;
          }
          const bounds = apart(tensor, other).map((off) => off > 5e-6);
          const coarse = dtype(tensor) !== "float32" || optimizer.name === "adamw8bit";
          const off = bounds.filter(Boolean).length;
          assert.ok(off <= (coarse ? numel(tensor) * 1e-3 : 0), `${name}: ${off} of ${numel(tensor)}`);
        }
      });
    });
  }
}
