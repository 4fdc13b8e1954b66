import assert from "node:assert/strict";
import { test } from "node:test";
import { permutation, seededGenerator, xoshiro128 } from "./shuffle.js";

test("xoshiro128** gives the sequence that its definition gives from the state 1, 2, 3, 4", () => {
  const next = xoshiro128([1, 2, 3, 4]);
  assert.deepEqual(
    Array.from({ length: 8 }, next),
    [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849],
  );
});

test("seeds and streams differ in every bit of theirs, and repeat exactly", () => {
  const first = (seed: number, stream: number): number => seededGenerator(seed, stream)();
  const cases: [number, number][] = [
    [0, 0],
    [0, 1],
    [1, 0],
    [2 ** 32, 0],
    [0, 2 ** 32],
    [42, 7],
    [7, 42],
  ];
  assert.equal(new Set(cases.map(([seed, stream]) => first(seed, stream))).size, cases.length);
  for (const [seed, stream] of cases) assert.equal(first(seed, stream), first(seed, stream));
});

test("a permutation holds every index once, and is another for another epoch", () => {
  const orders = [0, 1, 2].map((epoch) => permutation(1000, 42, epoch));
  for (const order of orders)
    assert.deepEqual(
      [...order].sort((a, b) => a - b),
      Array.from({ length: 1000 }, (_, i) => i),
    );
  assert.notDeepEqual(orders[0], orders[1]);
  assert.deepEqual(permutation(1000, 42, 1), orders[1]);
  assert.deepEqual([permutation(0, 1, 1).length, [...permutation(1, 1, 1)]], [0, [0]]);
});

test("all six orders of three come equally often", () => {
  const counts = new Map<string, number>();
  for (let stream = 0; stream < 12_000; stream++) {
    const order = permutation(3, 5, stream).join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.equal(counts.size, 6);
  // Five standard deviations of a binomial with 12,000 draws of 1/6.
  for (const [order, count] of counts) assert.ok(Math.abs(count - 2000) < 205, `${order}: ${count}`);
});
