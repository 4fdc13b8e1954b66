import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger } from "../torch/memory.js";
import { scope } from "../torch/scope.js";
import { fromArray, shape, type Tensor, toArray } from "../torch/tensor.js";
import { GrowingCache } from "./cache.js";

/** `rows` tokens of one head of width 2, numbered from `first`. */
const tokens = (first: number, rows: number): Tensor =>
  fromArray(
    Array.from({ length: 2 * rows }, (_, i) => 10 * (first + Math.floor(i / 2)) + (i % 2)),
    [rows, 1, 2],
    "float32",
  );

test("returns everything so far in order, layers apart, across growth", () => {
  const before = ledger();
  const cache = new GrowingCache(4);
  let length = 0;
  for (const rows of [3, 1, 1, 2, 20, 1]) {
    for (const layer of [0, 5]) {
      scope(() => {
        const { k_TKC, v_TKC } = cache.extend(layer, {
          k_TKC: tokens(length + 100 * layer, rows),
          v_TKC: tokens(-length, rows),
        });
        assert.deepEqual(shape(k_TKC), [length + rows, 1, 2]);
        assert.deepEqual(toArray(k_TKC), toArray(tokens(100 * layer, length + rows)));
        assert.deepEqual(toArray(v_TKC).slice(2 * length), toArray(tokens(-length, rows)));
      });
    }
    length += rows;
  }
  cache.free();
  assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
});

test("room doubles when full; a longer piece gets what it needs", () => {
  const before = ledger().liveBytes;
  const cache = new GrowingCache(4);
  const bytesPerToken = 2 * 2 * 4;
  const rooms: number[] = [];
  for (const rows of [1, 3, 1, 3, 1, 40]) {
    scope(() => void cache.extend(0, { k: tokens(0, rows), v: tokens(0, rows) }));
    rooms.push((ledger().liveBytes - before) / bytesPerToken);
  }
  assert.deepEqual(rooms, [4, 4, 8, 8, 16, 49]);
  cache.free();
});

test("what extend returned stays as it was when the layer grows within the same scope", () => {
  const cache = new GrowingCache(1);
  scope(() => {
    const first = cache.extend(0, { k: tokens(1, 1), v: tokens(2, 1) });
    cache.extend(0, { k: tokens(3, 5), v: tokens(4, 5) });
    assert.deepEqual(
      [toArray(first.k), toArray(first.v)],
      [
        [10, 11],
        [20, 21],
      ],
    );
  });
  cache.free();
});
