import assert from "node:assert/strict";
import { test } from "node:test";
import { packLengths } from "./pack.js";
import { seededGenerator } from "../shuffle.js";

function binsOf(lengths: ArrayLike<number>, capacity: number): number[][] {
  const bins = packLengths(lengths, capacity);
  return Array.from({ length: bins.length }, (_, bin) => Array.from(bins.of(bin)));
}

function check(lengths: number[], capacity: number): number[][] {
  const bins = binsOf(lengths, capacity);
  assert.deepEqual(
    bins.flat().sort((a, b) => a - b),
    lengths.map((_, i) => i),
  );
  for (const bin of bins) assert.ok(bin.reduce((sum, i) => sum + lengths[i], 0) <= capacity);
  return bins;
}

/** Best-fit decreasing, said plainly: every bin is looked at. Among bins of equal room, the last to get that room. */
function plainly(lengths: number[], capacity: number): number {
  const rooms: number[] = [];
  for (const length of lengths.toSorted((a, b) => b - a)) {
    const best = Math.min(...rooms.filter((room) => room >= length));
    if (best === Infinity) rooms.push(capacity - length);
    else rooms[rooms.indexOf(best)] -= length;
  }
  return rooms.length;
}

test("known cases are packed as well as can be", () => {
  assert.deepEqual(check([4, 8, 1, 4, 2, 1], 10), [
    [1, 2, 5],
    [0, 3, 4],
  ]);
  assert.deepEqual(check([10, 10], 10), [[0], [1]]);
  assert.deepEqual(check([1], 1), [[0]]);
  assert.deepEqual(check([], 8), []);
  // Into the fullest bin that takes it (7 + 3), not the first (6 + 4 stays whole).
  assert.deepEqual(check([6, 7, 3, 4], 10), [
    [1, 2],
    [0, 3],
  ]);
  // Fifty pairs that fill their bins: 50 bins, no more.
  assert.equal(
    check(
      Array.from({ length: 100 }, (_, i) => (i % 2 ? 100 - (i >> 1) - 1 : (i >> 1) + 1)),
      100,
    ).length,
    50,
  );
});

test("equal lengths keep their order, and the same lengths give the same bins", () => {
  assert.deepEqual(check([3, 3, 3, 3, 3], 6), [[0, 1], [2, 3], [4]]);
  const lengths = Array.from(
    { length: 500 },
    (
      (next) => () =>
        1 + (next() % 60)
    )(seededGenerator(1, 1)),
  );
  assert.deepEqual(binsOf(lengths, 64), binsOf(Int32Array.from(lengths), 64));
});

test("small random cases: as many bins as the plain way makes, for every capacity", () => {
  const next = seededGenerator(3, 0);
  for (let round = 0; round < 300; round++) {
    const capacity = 1 + (next() % 70);
    const lengths = Array.from({ length: next() % 60 }, () => 1 + (next() % capacity));
    assert.equal(check(lengths, capacity).length, plainly(lengths, capacity), `round ${round}`);
  }
});

test("20,000 random lengths: each once, none over, nearly full, and quick", () => {
  const next = seededGenerator(9, 9);
  const lengths = Array.from({ length: 20_000 }, () => 1 + Math.floor((next() / 2 ** 32) ** 3 * 4096));
  const start = performance.now();
  const bins = packLengths(lengths, 4096);
  assert.ok(performance.now() - start < 2000);
  check(lengths, 4096);
  const fewest = Math.ceil(lengths.reduce((sum, length) => sum + length, 0) / 4096);
  assert.ok(bins.length <= fewest * 1.01 + 1, `${bins.length} bins, at least ${fewest}`);
});

test("a document that fits no bin is a mistake of the caller", () => {
  assert.throws(() => packLengths([3, 9], 8), /internal: document 1 of length 9 for bins of 8/);
  assert.throws(() => packLengths([0], 8), /internal: document 0 of length 0/);
});
