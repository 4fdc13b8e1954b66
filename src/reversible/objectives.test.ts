// Distillation's loss against a float64 loop in plain numbers, and its gradients against autograd through full logits.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, withGrad } from "../torch/autograd.js";
import { clone, exp_, linear, logsumexp, mul, mulScalar, normal_, sub, sum } from "../torch/ops.js";
import { setThreads } from "../torch/device.js";
import { whyNoKernels } from "../torch/kernels/kernels.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { full, item, toArray, zeros, type Tensor } from "../torch/tensor.js";
import { lossAndGradient, losses, readLosses } from "./loss.js";
import { divergence } from "./objectives.js";

const PLAIN = { logits: 1, softCap: null };
const [T, D, V] = [10, 6, 12];
const SCALE = 0.25;

const random = (rows: number, columns: number): Tensor => normal_(zeros([rows, columns], "float64"), 0, 1);

/** Row by row, with exp and log of numbers. */
function klByHand(teacher: number[], student: number[], temperature: number): number {
  let total = 0;
  for (let row = 0; row < T; row++) {
    const of = (all: number[]): number[] => {
      const z = all.slice(row * V, (row + 1) * V).map((value) => Math.exp(value / temperature));
      const norm = z.reduce((a, b) => a + b, 0);
      return z.map((value) => value / norm);
    };
    const [p, q] = [of(teacher), of(student)];
    total += p.reduce((sum_, value, v) => sum_ + value * Math.log(value / q[v]), 0);
  }
  return total * temperature ** 2;
}

for (const temperature of [1, 2.5]) {
  test(`temperature ${temperature}: value, and gradients by tile, equal those through full logits`, () => {
    scope(() => {
      setSeed(3);
      const [hidden_TD, head_VD, taught_TD, taughtHead_VD] = [random(T, D), random(V, D), random(T, D), random(V, D)];
      const teacher_TV = linear(taught_TD, taughtHead_VD);
      const [x, w] = [leaf(hidden_TD), leaf(head_VD)];
      const loss = withGrad(() => {
        const logProbabilities = (z: Tensor): Tensor =>
          sub(mulScalar(z, 1 / temperature), logsumexp(mulScalar(z, 1 / temperature), [1], true));
        const [p, q] = [logProbabilities(teacher_TV), logProbabilities(linear(x, w))];
        return mulScalar(sum(mul(exp_(clone(p)), sub(p, q))), SCALE * temperature ** 2);
      });
      const byHand = klByHand(toArray(teacher_TV), toArray(linear(hidden_TD, head_VD)), temperature);
      assert.ok(byHand > 1 && Math.abs(item(loss) - SCALE * byHand) < 1e-12);
      const [dx, dw] = grad([loss], [x, w], [full([], 1, "float64")]).map((gradient) => toArray(gradient as Tensor));
      const objective = divergence({ hidden_TD: taught_TD, head_VD: taughtHead_VD, temperature, scales: PLAIN });
      for (const tileTokens of [1, 3, 7, 100]) {
        const dHead_VD = full([V, D], 0.5, "float64");
        const { sums_2, dHidden_TD } = lossAndGradient(
          { hidden_TD, head_VD, objective, tileTokens, scales: PLAIN },
          SCALE,
          { sum_VD: dHead_VD, isEmpty: false },
        );
        const [{ total }] = readLosses([sums_2]);
        assert.ok(Math.abs(total - byHand) < 1e-12);
        assert.ok(Math.abs(losses({ hidden_TD, head_VD, objective, tileTokens, scales: PLAIN }).total - total) < 1e-12);
        toArray(dHidden_TD).forEach((value, i) => assert.ok(Math.abs(value - dx[i]) < 1e-12));
        toArray(dHead_VD).forEach((value, i) =>
          assert.ok(Math.abs(value - 0.5 - dw[i]) < 1e-12, "the head's gradient is added"),
        );
      }
    });
  });
}

test("a teacher that is the student is at no distance and pulls nowhere; a head that is not trained costs nothing", () => {
  scope(() => {
    setSeed(4);
    const [hidden_TD, head_VD] = [random(T, D), random(V, D)];
    const objective = divergence({ hidden_TD, head_VD, temperature: 1, scales: PLAIN });
    const dHead_VD = zeros([V, D], "float64");
    const { sums_2, dHidden_TD } = lossAndGradient({ hidden_TD, head_VD, objective, tileTokens: 4, scales: PLAIN }, 1, {
      sum_VD: dHead_VD,
      isEmpty: false,
    });
    assert.equal(readLosses([sums_2])[0].total, 0);
    for (const gradient of [dHidden_TD, dHead_VD]) assert.ok(toArray(gradient).every((value) => value === 0));
    const frozen = lossAndGradient({ hidden_TD, head_VD, objective, tileTokens: 4, scales: PLAIN }, 1, null);
    assert.deepEqual(toArray(frozen.dHidden_TD), toArray(dHidden_TD));
  });
});

test("a logit beside a teacher's takes eight bytes in float32 and four in bfloat16", {
  skip: whyNoKernels("cpu") ?? false,
}, () => {
  scope(() => {
    const [rows, vocabulary] = [256, 20_000];
    for (const [type, bytes] of [
      ["float32", 8],
      ["bfloat16", 4],
    ] as const) {
      const [hidden_TD, head_VD] = [zeros([rows, 8], type), zeros([vocabulary, 8], type)];
      const objective = divergence({ hidden_TD, head_VD, temperature: 1, scales: PLAIN });
      const before = ledger().liveBytes;
      setThreads(1);
      resetPeak();
      lossAndGradient({ hidden_TD, head_VD, objective, tileTokens: rows, scales: PLAIN }, 1, null);
      const perLogit = (ledger().peakBytes - before) / (rows * vocabulary);
      // Products in bfloat16 take a workspace a thread where oneDNN makes them.
      assert.ok(perLogit < bytes + 0.4, `${type}: ${perLogit} bytes`);
    }
  });
});
