// All documents in one call of fused attention, where there is a GPU or a CPU that multiplies bfloat16, against tiles in float32 of the same numbers: values and gradients of
// queries, keys, values and sinks, on a GPU with and without a window, the same bits each time. What a plan counts for it is compared everywhere else a step is measured.
import assert from "node:assert/strict";
import { test } from "node:test";

import { engineInfo, isCpu, setThreads } from "../../torch/device.js";
import { backwardThrough, record } from "../../torch/graph.js";
import { cast, hasOp, mulScalar, normal_, packsDocuments, reshape } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { attend } from "./attend.js";
import { tiledAttention } from "./tiled.js";

const has = isCpu(TEST_DEVICE) ? hasOp("revmoe::document_attention") : packsDocuments(TEST_DEVICE);
const skip = has ? false : "needs a libtorch that packs documents, and a GPU or a CPU that multiplies bfloat16";

const SEGMENTS = [130, 1, 257, 64, 300];
const [T, C] = [SEGMENTS.reduce((sum, length) => sum + length, 0), 64];

/** With as many of a CPU's threads. */
function withThreads<Result>(threads: number, fn: () => Result): Result {
  const before = engineInfo().threads;
  setThreads(threads);
  try {
    return fn();
  } finally {
    setThreads(before);
  }
}

const lengthOf = (values: number[]): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** Values, then gradients, as float32. */
function run(attention: (...inputs: Tensor[]) => Tensor, inputs: Tensor[], dOut: Tensor): number[][] {
  const results: number[][] = [];
  scope(() => {
    const graph = record(inputs, (...leaves) => reshape(attention(...leaves.map((t) => mulScalar(t, 1))), [T, -1]));
    results.push(toArray(cast(graph.y, "float32")));
    for (const each of backwardThrough(graph, dOut)) results.push(toArray(cast(each as Tensor, "float32")));
  });
  return results;
}

for (const [heads, groups] of [
  [4, 4],
  [6, 2],
]) {
  for (const window of isCpu(TEST_DEVICE) ? [null] : [null, 50]) {
    for (const hasSinks of [false, true]) {
      test(`packed attention, ${heads} heads in ${groups} groups, window ${window}, ${hasSinks ? "" : "no "}sinks`, {
        skip,
      }, () => {
        scope(() => {
          setSeed(heads);
          const random = (size: number[]): Tensor =>
            cast(normal_(zeros(size, "float32", TEST_DEVICE), 0, 1), "bfloat16");
          const inputs = [heads, groups, groups].map((count) => random([T, count, C]));
          if (hasSinks) inputs.push(random([heads]));
          const dOut = random([T, heads * C]);
          const packed = (): number[][] =>
            run((q, k, v, ...[z]) => attend(q, k, v, SEGMENTS, window, undefined, z ?? null), inputs, dOut);
          const exact = run(
            (q, k, v, ...[z]) => tiledAttention(q, k, v, SEGMENTS, window, z ?? null),
            inputs.map((input) => cast(input, "float32")),
            cast(dOut, "float32"),
          );
          // With more threads than heads a CPU takes another form.
          const [first, second] = [withThreads(2, packed), withThreads(1, packed)];
          for (const [i, name] of ["values", "dq", "dk", "dv", ...(hasSinks ? ["dsinks"] : [])].entries()) {
            assert.deepEqual(first[i], second[i], `${name}: other bits the second time`);
            const off = lengthOf(first[i].map((value, at) => value - exact[i][at])) / lengthOf(exact[i]);
            assert.ok(off < 8e-3, `${name}: ${off} from float32`);
          }
        });
      });
    }
  }
}
