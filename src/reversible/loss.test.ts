// The tiled loss against a float64 loop over rows, and its gradients against autograd through full logits.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, withGrad } from "../torch/autograd.js";
import { cast, gather, indexSelect, linear, logsumexp, mulScalar, normal_, sub, sum, unsqueeze } from "../torch/ops.js";
import { setThreads } from "../torch/device.js";
import { whyNoKernels } from "../torch/kernels/kernels.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { fromArray, full, item, toArray, zeros, type Tensor } from "../torch/tensor.js";
import { lossAndGradient, losses, readLosses } from "./loss.js";
import { crossEntropy } from "./objectives.js";

const PLAIN = { logits: 1, softCap: null };
const labels_T = Int32Array.from([3, -100, 0, 11, -100, 7, 7, 2, -100, 5]);
const SCALE = 0.25;

function make(): { hidden_TD: Tensor; head_VD: Tensor } {
  setSeed(2);
  return { hidden_TD: normal_(zeros([10, 6], "float64"), 0, 1), head_VD: normal_(zeros([12, 6], "float64"), 0, 1) };
}

test("values and gradients do not depend on the tile and equal those through full logits", () => {
  scope(() => {
    const { hidden_TD, head_VD } = make();
    const [x, w] = [leaf(hidden_TD), leaf(head_VD)];
    const rows = Array.from(labels_T.keys()).filter((i) => labels_T[i] >= 0);
    const loss = withGrad(() => {
      const logits = linear(indexSelect(x, 0, fromArray(rows, [rows.length], "int64")), w);
      const target = unsqueeze(
        fromArray(
          rows.map((i) => labels_T[i]),
          [rows.length],
          "int64",
        ),
        1,
      );
      return mulScalar(sum(sub(logsumexp(logits, [1], true), gather(logits, 1, target))), SCALE);
    });
    const [dx, dw] = grad([loss], [x, w], [full([], 1, "float64")]).map((gradient) => toArray(gradient as Tensor));
    const objective = crossEntropy(labels_T);
    for (const tileTokens of [1, 3, 7, 100]) {
      const dHead_VD = full([12, 6], 0.5, "float64");
      const { sums_2, dHidden_TD } = lossAndGradient(
        { hidden_TD, head_VD, objective, tileTokens, scales: PLAIN },
        SCALE,
        { sum_VD: dHead_VD, isEmpty: false },
      );
      const [{ total }] = readLosses([sums_2]);
      assert.ok(Math.abs(total * SCALE - item(loss)) < 1e-12);
      assert.ok(Math.abs(losses({ hidden_TD, head_VD, objective, tileTokens, scales: PLAIN }).total - total) < 1e-12);
      toArray(dHidden_TD).forEach((value, i) => assert.ok(Math.abs(value - dx[i]) < 1e-12));
      toArray(dHead_VD).forEach((value, i) =>
        assert.ok(Math.abs(value - 0.5 - dw[i]) < 1e-12, "the head's gradient is added"),
      );
    }
  });
});

test("rows without a label are not looked at", () => {
  scope(() => {
    const { hidden_TD, head_VD } = make();
    const none = new Int32Array(10).fill(-100);
    assert.equal(losses({ hidden_TD, head_VD, objective: crossEntropy(none), tileTokens: 4, scales: PLAIN }).total, 0);
  });
});

test("a head's gradient that is empty is written over, whatever it held", () => {
  scope(() => {
    const { hidden_TD, head_VD } = make();
    for (const type of ["float64", "float32", "bfloat16"] as const) {
      const of = { hidden_TD: cast(hidden_TD, type), head_VD: cast(head_VD, type), tileTokens: 3, scales: PLAIN };
      const [held, zero] = [Number.NaN, 0].map((value) => {
        const sum_VD = full([12, 6], value, type === "float64" ? type : "float32");
        const head = { sum_VD, isEmpty: Number.isNaN(value) };
        lossAndGradient({ ...of, objective: crossEntropy([]) }, SCALE, head);
        lossAndGradient({ ...of, objective: crossEntropy(labels_T) }, SCALE, head);
        assert.equal(head.isEmpty, false);
        return toArray(sum_VD);
      });
      assert.ok(zero.some((value) => value !== 0));
      assert.deepEqual(held, zero);
    }
  });
});

test("a logit takes four bytes in float32 and two in bfloat16", { skip: whyNoKernels("cpu") ?? false }, () => {
  scope(() => {
    const [rows, vocabulary] = [256, 20_000];
    for (const [type, bytes] of [
      ["float32", 4],
      ["bfloat16", 2],
    ] as const) {
      const [hidden_TD, head_VD] = [zeros([rows, 8], type), zeros([vocabulary, 8], type)];
      const sum_VD = zeros([vocabulary, 8], "float32");
      const of = { hidden_TD, head_VD, tileTokens: rows, scales: { logits: 0.5, softCap: 30 } };
      const before = ledger().liveBytes;
      setThreads(1);
      resetPeak();
      const objective = crossEntropy(new Int32Array(rows));
      const { sums_2 } = lossAndGradient({ ...of, objective }, 1, { sum_VD, isEmpty: false });
      assert.ok(Math.abs(readLosses([sums_2])[0].total / rows - Math.log(vocabulary)) < 1e-5);
      const perLogit = (ledger().peakBytes - before) / (rows * vocabulary);
      // Products in bfloat16 take a workspace a thread where oneDNN makes them.
      assert.ok(perLogit < bytes + 0.4, `${type}: ${perLogit} bytes`);
    }
  });
});
