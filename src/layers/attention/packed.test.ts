// All documents in one call of fused attention, where there is a GPU, against tiles in float32 of the same numbers: values and gradients of
// queries, keys and values, with and without a window, the same bits each time. What a plan counts for it is compared everywhere else a step is measured.
import assert from "node:assert/strict";
import { test } from "node:test";

import { isCpu } from "../../torch/device.js";
import { backwardThrough, record } from "../../torch/graph.js";
import { cast, normal_, packsDocuments, reshape } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { attend } from "./attend.js";
import { tiledAttention } from "./tiled.js";

const skip =
  isCpu(TEST_DEVICE) || !packsDocuments(TEST_DEVICE)
    ? "needs REVMOE_TEST_DEVICE=cuda and a libtorch that packs documents"
    : false;

const SEGMENTS = [130, 1, 257, 64, 300];
const [T, C] = [SEGMENTS.reduce((sum, length) => sum + length, 0), 64];

/** Values, then gradients, as float32. */
function run(attention: (q: Tensor, k: Tensor, v: Tensor) => Tensor, inputs: Tensor[], dOut: Tensor): number[][] {
  const results: number[][] = [];
  scope(() => {
    const graph = record(inputs, (q, k, v) => reshape(attention(q, k, v), [T, -1]));
    results.push(toArray(cast(graph.y, "float32")));
    for (const each of backwardThrough(graph, dOut)) results.push(toArray(cast(each as Tensor, "float32")));
  });
  return results;
}

for (const [heads, groups] of [
  [4, 4],
  [6, 2],
]) {
  for (const window of [null, 50]) {
    test(`packed attention, ${heads} heads in ${groups} groups, window ${window}`, { skip }, () => {
      scope(() => {
        setSeed(heads);
        const random = (size: number[]): Tensor => cast(normal_(zeros(size, "float32", TEST_DEVICE), 0, 1), "bfloat16");
        const inputs = [heads, groups, groups].map((count) => random([T, count, C]));
        const dOut = random([T, heads * C]);
        const packed = (): number[][] => run((q, k, v) => attend(q, k, v, SEGMENTS, window), inputs, dOut);
        const exact = run(
          (q, k, v) => tiledAttention(q, k, v, SEGMENTS, window, null),
          inputs.map((input) => cast(input, "float32")),
          cast(dOut, "float32"),
        );
        const [first, second] = [packed(), packed()];
        for (const [i, name] of ["values", "dq", "dk", "dv"].entries()) {
          assert.deepEqual(first[i], second[i], `${name}: other bits the second time`);
          const off = Math.hypot(...first[i].map((value, at) => value - exact[i][at])) / Math.hypot(...exact[i]);
          assert.ok(off < 8e-3, `${name}: ${off} from float32`);
        }
      });
    });
  }
}
