// Attention with sinks, in tiles of any size and by the engine's fused form where it has one, against one graph through all scores, head by head: values, and the gradients of
// queries, keys, values and sinks.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, takeGrad, withGrad } from "../../torch/autograd.js";
import { backwardThrough, record } from "../../torch/graph.js";
import { ledger } from "../../torch/memory.js";
import {
  add,
  cat,
  expand,
  mm,
  mul,
  mulScalar,
  narrow,
  normal_,
  reshape,
  select,
  softmax,
  sum,
  transpose,
} from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { fromArray, full, shape, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { attend } from "./attend.js";
import { tiledAttention } from "./tiled.js";
import type { Limits } from "./tiles.js";

const [T, H, K, C] = [23, 4, 2, 6];

const random = (size: number[]): Tensor => normal_(zeros(size, "float64"), 0, 1);

function assertNear(actual: number[], expected: number[], what: string): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of actual.entries())
    assert.ok(Math.abs(value - expected[i]) < 1e-11, `${what}, element ${i}: ${value}, not ${expected[i]}`);
}

/** 0 where a query sees a key of its document and window, -inf where not. */
function maskOf(segments: readonly number[], window: number | null): Tensor {
  const documents = segments.flatMap((length, document) => new Array<number>(length).fill(document));
  const sees = (t: number, s: number): boolean =>
    documents[t] === documents[s] && s <= t && (window === null || s > t - window);
  const closed = documents.flatMap((_, t) => documents.map((_, s) => (sees(t, s) ? 0 : Number.NEGATIVE_INFINITY)));
  return fromArray(closed, [T, T], "float64");
}

/** softmax([scores, sink]) without its last column, times v; gradients of the inputs, then the values. */
function whole(inputs: Tensor[], dOut_THC: Tensor, mask_TT: Tensor): number[][] {
  const leaves = inputs.map((t) => leaf(t));
  const heads = withGrad(() =>
    Array.from({ length: H }, (_, h) => {
      const [q_TC, k_TC, v_TC] = [h, h >> 1, h >> 1].map((head, i) => select(leaves[i], 1, head));
      const scores_TT = add(mulScalar(mm(q_TC, transpose(k_TC, 0, 1)), C ** -0.5), mask_TT);
      const sinks_T1 = expand(reshape(select(leaves[3], 0, h), [1, 1]), [T, 1]);
      return mm(narrow(softmax(cat([scores_TT, sinks_T1], 1), -1), 1, 0, T), v_TC);
    }),
  );
  const loss = withGrad(() => heads.map((out, h) => sum(mul(out, select(dOut_THC, 1, h)))).reduce((a, b) => add(a, b)));
  const gradients = grad([loss], leaves, [fromArray([1], [], "float64")]);
  return [...gradients, cat(heads, 1)].map((t) => toArray(t as Tensor));
}

// Scores of sinks far above those of keys, and far below, must neither overflow nor vanish.
for (const [segments, window, size] of [
  [[23], null, 1],
  [[9, 1, 13], null, 1],
  [[8, 8, 7], null, 300],
  [[9, 1, 13], 4, 1],
  [[9, 1, 13], 3, 300],
] as const) {
  test(`documents of ${segments.join(", ")} tokens, window ${window}, sinks of size ${size}`, () => {
    scope(() => {
      setSeed(12);
      const [q, dOut] = [random([T, H, C]), random([T, H, C])];
      const [k, v] = [random([T, K, C]), random([T, K, C])];
      const sinks = fromArray([0.3 * size, -1.2 * size, 0, 2 * size], [H], "float64");
      const expected = whole([q, k, v, sinks], dOut, maskOf(segments, window));
      type Attention = (q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) => Tensor;
      const tiled =
        (limits: Limits): Attention =>
        (q, k, v, z) =>
          tiledAttention(q, k, v, [...segments], window, z, limits);
      const chosen: Attention = (q, k, v, z) => reshape(attend(q, k, v, [...segments], window, undefined, z), shape(q));
      assertNear(toArray(chosen(q, k, v, sinks)), expected[4], "attend");
      for (const attention of [
        chosen,
        tiled({ scores: 40, rows: 4, keys: 5 }),
        tiled({ scores: 100, rows: 7, keys: 7 }),
        tiled({ scores: 1e6, rows: 256, keys: 2048 }),
      ]) {
        for (const frozen of [false, true]) {
          const { blocks } = ledger();
          scope(() => {
            const used = frozen ? sinks : leaf(sinks);
            // As in a layer, queries, keys and values are made of one tensor, by what saves something.
            const ones = full([T, H + 2 * K, C], 1, "float64");
            const graph = record([cat([q, k, v], 1)], (input) => {
              const h = mul(input, ones);
              return attention(narrow(h, 1, 0, H), narrow(h, 1, H, K), narrow(h, 1, H + K, K), used);
            });
            assertNear(toArray(graph.y), expected[4], "values");
            const [gradient] = backwardThrough(graph, dOut);
            const heads = [0, H, H + K].map((first, i) => narrow(gradient as Tensor, 1, first, i === 0 ? H : K));
            const gradients = [...heads, takeGrad(used)];
            assert.equal(gradients[3] === null, frozen);
            for (const [i, gradient] of gradients.entries())
              if (gradient) assertNear(toArray(gradient), expected[i], ["dq", "dk", "dv", "dsinks"][i]);
          });
          assert.equal(ledger().blocks, blocks);
        }
      }
    });
  });
}
