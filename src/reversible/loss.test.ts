// The tiled loss against a float64 loop over rows, and its gradients against autograd through full logits.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, withGrad } from "../torch/autograd.js";
import { gather, indexSelect, linear, logsumexp, mulScalar, normal_, sub, sum, unsqueeze } from "../torch/ops.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { fromArray, full, item, toArray, zeros, type Tensor } from "../torch/tensor.js";
import { lossAndGradient, losses } from "./loss.js";
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
      const { total, dHidden_TD } = lossAndGradient(
        { hidden_TD, head_VD, objective, tileTokens, scales: PLAIN },
        SCALE,
        dHead_VD,
      );
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

test("a logit takes four bytes in float32 and six in bfloat16, at most", () => {
  scope(() => {
    const [rows, vocabulary] = [256, 20_000];
    for (const [type, bytes] of [
      ["float32", 4],
      ["bfloat16", 6],
    ] as const) {
      const [hidden_TD, head_VD] = [zeros([rows, 8], type), zeros([vocabulary, 8], type)];
      const dHead_VD = zeros([vocabulary, 8], "float32");
      const objective = crossEntropy(new Int32Array(rows));
      const before = ledger().liveBytes;
      resetPeak();
      const { total } = lossAndGradient(
        { hidden_TD, head_VD, objective, tileTokens: rows, scales: PLAIN },
        1,
        dHead_VD,
      );
      assert.ok(Math.abs(total / rows - Math.log(vocabulary)) < 1e-5);
      const perLogit = (ledger().peakBytes - before) / (rows * vocabulary);
      assert.ok(perLogit < bytes + 0.2, `${type}: ${perLogit} bytes`);
    }
  });
});
