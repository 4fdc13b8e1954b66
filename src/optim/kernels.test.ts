// Every optimizer by the addon's kernels against its reference in libtorch's operators: weights in all three storages, matrices, stacks and
// vectors of odd sizes, gradients that are scaled. Rounding, 8-bit codes and scales have the same bits, moments and weights up to the last
// ones; and the kernels the same bits for any number of threads and on every kind of CPU.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { engineInfo, setThreads } from "../torch/device.js";
import { onReference } from "../torch/kernels/kernels.js";
import { cast, normal_, squareSum, storeWeight_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { dtype, item, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { gradientNorm } from "./clip.js";
import type { Optimizer } from "./optimizer.js";
import { makeOptimizer, OPTIMIZER_NAMES } from "./registry.js";
import { factsOf, type Stepped, stepped } from "./testing-rules.js";
import { joinCorrection } from "./weights/correction.js";
import { roundStochastically } from "./weights/rounding.js";

const random = (size: number[], seed: number, deviation = 1): Tensor => {
  setSeed(seed);
  return normal_(zeros(size, "float32", TEST_DEVICE), 0, deviation);
};

const STORAGES = ["float32", "bfloat16", "corrected"] as const;
// Bands and blocks cut short, chunks and tiles too; several bands; rows that a GPU takes in whole accesses, more than its warps take at a time;
// a matrix of one row, one column; a vector of several chunks.
const SHAPES = [[3, 67, 41], [2, 300, 19], [530, 9], [13, 2312], [1, 5000], [77, 1], [9001], [5]];
const OPTIMIZERS: Optimizer[] = OPTIMIZER_NAMES.map((optimizer) =>
  makeOptimizer({
    optimizer,
    weight_decay: 0.1,
    galore_rank: 8,
    galore_update_gap: 2,
    adafactor_scale_parameter: true,
  }),
);

/** Three steps, the second with a scaled gradient. */
function run(optimizer: Optimizer, shape: number[], storage: (typeof STORAGES)[number]): Stepped {
  const type = storage === "float32" ? "float32" : "bfloat16";
  const correction = storage === "corrected" ? zeros(shape, "int8", TEST_DEVICE) : undefined;
  const made = stepped(optimizer, cast(random(shape, 21), type), factsOf(shape), correction);
  for (let step = 1; step <= 3; step++) {
    const gradient = toArray(random(shape, 30 + step, 10 ** (step - 3)));
    made.step(gradient, 1e-2, step === 2 ? 0.3 : 1);
  }
  return made;
}

const tensorsOf = ({ parameter, correction, state }: Stepped): [string, Tensor][] => [
  ["weights", correction ? joinCorrection(parameter, correction) : parameter],
  ...Object.entries(state),
];

/** Values that may be apart: a last bit decides which of two roundings, or codes, a value has. */
const SHARE_APART = 2e-3;

for (const optimizer of OPTIMIZERS) {
  for (const storage of STORAGES) {
    test(`${optimizer.name}, ${storage} weights: state and weights after three steps are those of the reference`, () => {
      for (const shape of SHAPES) {
        scope(() => {
          const [ours, theirs] = [run(optimizer, shape, storage), onReference(() => run(optimizer, shape, storage))];
          const others = tensorsOf(theirs);
          for (const [i, [name, tensor]] of tensorsOf(ours).entries()) {
            const [a, b] = [tensor, others[i][1]].map(toArray);
            const coarse = dtype(tensor) !== "float32" || storage === "corrected" || name.endsWith("_scale");
            const limit = name === "weights" ? 3e-6 : 1e-5;
            const apart = a.filter((value, at) => Math.abs(value - b[at]) > limit * Math.max(0.03, Math.abs(b[at])));
            const most = coarse ? Math.max(1, a.length * SHARE_APART) : 0;
            assert.ok(apart.length <= most, `[${shape}] ${name}: ${apart.length} of ${a.length} are apart`);
            // Where they are, it is by one step of the storage.
            if (coarse && name === "weights")
              a.forEach((value, at) => assert.ok(Math.abs(value - b[at]) <= 2 ** -7 * Math.max(0.03, Math.abs(b[at]))));
          }
        });
      }
    });
  }
}

test("rounding by chance has the bits of the reference, for every seed and far into a weight", () => {
  scope(() => {
    const values = random([9001], 7);
    for (const seed of [0, 1, 2 ** 31 + 5, 2 ** 32 - 1, 2 ** 40 + 3, 2 ** 53 - 1]) {
      for (const first of [0, 4095, 2 ** 32 - 3000, 2 ** 40 + 1]) {
        const [ours, theirs] = [zeros([9001], "bfloat16", TEST_DEVICE), zeros([9001], "bfloat16", TEST_DEVICE)];
        storeWeight_(ours, null, seed, first, values);
        roundStochastically(cast(values, "float32", false, true), theirs, seed, first);
        assert.deepEqual(toArray(ours), toArray(theirs), `seed ${seed}, from ${first}`);
      }
    }
  });
});

test("a sum of squares is that of float64", () => {
  scope(() => {
    const [x, y] = [random([200_000], 11, 1e5), random([3, 5], 12)];
    const exact = [x, y].flatMap(toArray).reduce((sum, value) => sum + value * value, 0);
    assert.ok(Math.abs(item(squareSum([x, y])) / exact - 1) < 1e-12);
    assert.equal(item(squareSum([zeros([0], "float32", TEST_DEVICE)])), 0);
    const [ours, theirs] = [gradientNorm([x, y]), onReference(() => gradientNorm([x, y]))];
    assert.ok(Math.abs(ours / theirs - 1) < 1e-5, `${ours} ${theirs}`);
    assert.throws(() => squareSum([zeros([4], "bfloat16", TEST_DEVICE)]), /expected a dense tensor of Float/);
    assert.throws(() => squareSum([]), /no tensors/);
  });
});

/** A hash of all that the kernels make of all weights and state, and of a norm. */
function everyBit(): string {
  const hash = createHash("sha256");
  for (const optimizer of OPTIMIZERS.filter(({ name }) => name !== "galore_adamw" && name !== "muon")) {
    for (const storage of STORAGES) {
      // More columns than a kernel takes at once, and more rows than one of its bands has.
      for (const shape of [[2, 20, 301], [530, 9], [9001], [77, 1]]) {
        scope(() => {
          for (const [, tensor] of tensorsOf(run(optimizer, shape, storage)))
            hash.update(Float64Array.from(toArray(tensor)));
        });
      }
    }
  }
  hash.update(String(scope(() => gradientNorm([random([100_000], 3)]))));
  return hash.digest("hex");
}

const CHILD = "REVMOE_TEST_EVERY_BIT";
if (process.env[CHILD]) {
  console.log(`bits ${everyBit()}`);
  process.exit();
}

test("the kernels have the same bits for one, two and three threads", (t) => {
  const { threads } = engineInfo();
  t.after(() => setThreads(threads));
  const bits = [1, 2, 3].map((count) => {
    setThreads(count);
    return everyBit();
  });
  assert.equal(new Set(bits).size, 1);
});

test("the kernels have the same bits on every kind of CPU", { skip: TEST_DEVICE !== "cpu" }, () => {
  const bits = ["plain", "avx2", "avx512"].map((kind) => {
    const env = { ...process.env, [CHILD]: "1", REVMOE_CPU: kind, NODE_TEST_CONTEXT: undefined };
    const { stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(import.meta.url)], { env, encoding: "utf8" });
    return /bits (\w{64})/.exec(stdout)?.[1] ?? assert.fail(`${kind}: ${stdout}${stderr}`);
  });
  assert.equal(new Set(bits).size, 1);
});
