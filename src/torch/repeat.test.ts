// Rounds that are alike: all of them on the engine that computes, few on the one that counts, with the same totals.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger, resetPeak } from "./memory.js";
import { during } from "./span.js";
import { add, cat } from "./ops.js";
import { forEachTile, repeat } from "./repeat.js";
import { free, keep, scope } from "./scope.js";
import { onFullShadow, onShadow, operatorCalls, shadowSpans } from "./shadow.js";
import { byteSize, empty, type Tensor } from "./tensor.js";

/** Live and highest bytes, by moment too, and operators. */
function counted(engine: typeof onShadow, work: () => void) {
  return engine(() => {
    resetPeak();
    work();
    return {
      live: ledger().liveBytes,
      peak: ledger().peakBytes,
      spans: [...shadowSpans("cpu")],
      calls: operatorCalls(),
    };
  });
}

/** Both engines agree; returns how many operators each ran. */
function agree(work: () => void): { few: number; all: number } {
  const [{ calls: few, ...short }, { calls: all, ...full }] = [counted(onShadow, work), counted(onFullShadow, work)];
  assert.deepEqual(short, full);
  return { few, all };
}

const bytes = (count: number): Tensor => empty([count], "uint8");

test("every round runs where tensors have elements, and tiles cover the whole", () => {
  for (const total of [0, 1, 99, 100, 101, 1000, 1001]) {
    const seen: number[][] = [];
    forEachTile(total, 100, (start, length) => seen.push([start, length]));
    const expected = Array.from({ length: Math.ceil(total / 100) }, (_, i) => [
      i * 100,
      Math.min(100, total - i * 100),
    ]);
    assert.deepEqual(seen, expected);
  }
});

test("what rounds leave behind counts as often as they are, until it is freed", () => {
  for (const total of [18, 21, 700, 70_001]) {
    const { few, all } = agree(() => {
      const left: Tensor[] = [];
      during("make", () =>
        forEachTile(total, 3, (_, length) => {
          scope(() => void bytes(50));
          left.push(keep(bytes(length)));
        }),
      );
      const sum = left.reduce((bytes, tensor) => bytes + byteSize(tensor), 0);
      assert.equal(sum, total);
      during("join", () => assert.equal(byteSize(cat(left)), total));
      // One after the other, in the same order.
      during("free", () =>
        forEachTile(total, 3, () => {
          bytes(20);
          free(left.shift() as Tensor);
        }),
      );
      assert.equal(left.length, 0);
      bytes(1000);
    });
    assert.ok(few <= Math.min(all, 30));
  }
});

test("rounds within rounds", () => {
  for (const [outer, inner] of [
    [9, 9],
    [100, 4],
    [5, 400],
    [64, 333],
  ]) {
    const { few } = agree(() => {
      const left: Tensor[] = [];
      repeat(outer, (round) => {
        const sum = bytes(8);
        repeat(inner, () => left.push(keep(bytes(16))));
        scope(() => during(round === 0 ? "first" : "later", () => void add(sum, bytes(8))));
      });
      bytes(99);
      free(...left);
    });
    assert.ok(few < 130);
  }
});

test("rounds that are not alike are counted one by one; the first and the last two may differ", () => {
  const { few, all } = agree(() => repeat(50, (round) => void keep(bytes(round))));
  assert.equal(few, all);
  const ends = agree(() => repeat(50, (round) => void keep(bytes(round === 0 || round > 47 ? 1000 + round : 10))));
  assert.ok(ends.few < ends.all);
});
