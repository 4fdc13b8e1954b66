// Optimisers against their published implementations: test/golden/optim.json, written by make_optim.py from torch,
// transformers, bitsandbytes, galore-torch and lomo-optim.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { scope } from "../torch/scope.js";
import { fromArray, shape, toArray, zeros } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { adafactor } from "./adafactor.js";
import { adalomo } from "./adalomo.js";
import { adamw8bit } from "./adamw8bit.js";
import { BlockQuantizer, dynamicMap } from "./state/block-quantize.js";
import { galoreAdamw } from "./galore.js";
import { muon } from "./muon.js";
import type { Optimizer } from "./optimizer.js";
import { lomo, sgd } from "./sgd.js";
import { factsOf, numbers, stepped } from "./testing-rules.js";

interface Golden {
  steps: number;
  cases: Record<
    string,
    { sample?: number; runs: Record<string, { shape: number[]; first: number[]; last: number[] }> }
  >;
  maps: Record<"signed" | "unsigned", { code: number[]; q: number[]; scale: number[] }>;
}
const golden = JSON.parse(readFileSync(new URL("../../test/golden/optim.json", import.meta.url), "utf8")) as Golden;

const LEARNING_RATE = 0.01;
const adam = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
const decayed = { ...adam, weightDecay: 0.1 };
const factored = { decayRate: 0.8, updateClip: 1, weightDecay: 0.1 };

const OPTIMIZERS: Record<string, Optimizer> = {
  sgd: sgd({ momentum: 0.9, weightDecay: 0 }),
  lomo: lomo({ weightDecay: 0.1 }),
  adafactor: adafactor({ ...factored, scaleParameter: false }),
  adafactor_scaled: adafactor({ ...factored, scaleParameter: true }),
  adafactor_vector: adafactor({ ...factored, scaleParameter: true }),
  adalomo: adalomo(factored),
  muon: muon({ ...decayed, momentum: 0.95, productDtype: "float32" }),
  galore_adamw: galoreAdamw({ ...adam, rank: 3, updateGap: 3, scale: 0.25 }),
  adamw8bit: adamw8bit(decayed),
};

const weightOf = (count: number): number[] => numbers(count, 0).map((value) => value * 0.05);
function gradientOf(size: number[], step: number): number[] {
  const count = size.reduce((product, each) => product * each, 1);
  const columns = count / size[0];
  return numbers(count, step).map((value, i) => value ** 3 * (0.1 + (1.9 * Math.floor(i / columns)) / (size[0] - 1)));
}

// Relative to how far the weights have moved, which is what an optimiser does.
// In 8 bits, a moment on the edge between two codes may fall either way.
const TOLERANCE: Record<string, number> = { muon: 1e-4, galore_adamw: 5e-5, adamw8bit: 1e-3 };

test("the golden file has a case for every optimiser", () => {
  assert.deepEqual(Object.keys(golden.cases).sort(), Object.keys(OPTIMIZERS).sort());
});

for (const [name, { sample = 1, runs }] of Object.entries(golden.cases)) {
  test(`${name}: weights after one and after ${golden.steps} steps are those of its published implementation`, () => {
    for (const [label, { shape: size, first, last }] of Object.entries(runs)) {
      scope(() => {
        const start = weightOf(size.reduce((product, each) => product * each, 1));
        const run = stepped(OPTIMIZERS[name], fromArray(start, size, "float32"), factsOf(size));
        for (let step = 1; step <= golden.steps; step++) {
          run.step(gradientOf(size, step), LEARNING_RATE);
          const expected = step === 1 ? first : step === golden.steps ? last : null;
          if (expected === null) continue;
          const moved = (values: number[]): number[] => values.map((value, i) => value - start[i * sample]);
          const [ours, theirs] = [toArray(run.parameter).filter((_, i) => i % sample === 0), expected].map(moved);
          const norm = (values: number[]): number =>
            Math.sqrt(values.reduce((total, value) => total + value * value, 0));
          const error = norm(ours.map((value, i) => value - theirs[i])) / norm(theirs);
          assert.ok(error < (TOLERANCE[name] ?? 2e-5), `${label}, step ${step}: relative error ${error}`);
        }
      });
    }
  });
}

for (const signed of [true, false]) {
  const { code, q, scale } = golden.maps[signed ? "signed" : "unsigned"];
  test(`the ${signed ? "signed" : "unsigned"} dynamic map and its quantiser are those of bitsandbytes`, () => {
    const ours = dynamicMap(signed);
    assert.equal(ours.length, 256);
    for (const [i, value] of ours.entries())
      assert.ok(Math.abs(value - code[i]) <= 3e-7 * Math.abs(code[i]), `${i}: ${value} ${code[i]}`);
    scope(() => {
      const count = q.length;
      const values = numbers(count, 99).map((value, i) => value ** 5 * (1e-3 + ((3 - 1e-3) * i) / (count - 1)));
      const [codes, scales] = [zeros([count], "uint8", TEST_DEVICE), zeros([scale.length], "float32", TEST_DEVICE)];
      const x = fromArray(signed ? values : values.map(Math.abs), [count], "float32", TEST_DEVICE);
      new BlockQuantizer(signed, TEST_DEVICE).encode(x, codes, scales);
      assert.deepEqual(shape(scales), [3]);
      assert.deepEqual(toArray(codes), q);
      for (const [i, value] of toArray(scales).entries()) assert.ok(Math.abs(value - scale[i]) <= 1e-6 * scale[i]);
    });
  });
}
