// Whose turn it is: ranks that want the same go together, those that came apart meet again, and none waits for what never comes.
import assert from "node:assert/strict";
import { test } from "node:test";

import { nextRound, type Wish } from "./rounds.js";

const value = (layer: number): Wish => ({ kind: "value", layer, counts: [], tokens: [] });
const record = (slot: number, layer: number, turn: number): Wish => ({
  kind: "record",
  layer,
  slot,
  turn,
  counts: [],
  tokens: [],
});
const NONE: Wish = { kind: "none" };
const nobody = (): readonly number[] => [];

test("what is wanted by most goes first, by all who want it", () => {
  assert.deepEqual(nextRound([value(1), record(0, 1, 0), value(1)], nobody), { kind: "value", ranks: [0, 2] });
  assert.deepEqual(nextRound([value(2), value(1), NONE], nobody), { kind: "value", ranks: [1] });
  assert.deepEqual(nextRound([record(1, 0, 0), record(0, 4, 2), record(1, 0, 0)], nobody).ranks, [1]);
  const back: Wish = { kind: "gradient", slot: 0, of: 7 };
  assert.deepEqual(
    nextRound([back, record(1, 0, 0)], () => [0]),
    { kind: "gradient", ranks: [0] },
  );
  assert.deepEqual(
    nextRound([back, record(0, 0, 1)], () => [0]),
    { kind: "record", ranks: [1] },
  );
  // The other had rows in it.
  assert.deepEqual(
    nextRound([back, record(1, 0, 0)], () => [0, 1]),
    { kind: "record", ranks: [1] },
  );
});

test("the end is when none wants anything, and a failure is heard before all", () => {
  assert.deepEqual(nextRound([NONE, NONE], nobody), { kind: "none", ranks: [] });
  assert.deepEqual(nextRound([value(0), { kind: "failed" }, NONE], nobody), { kind: "failed", ranks: [1] });
  const back: Wish = { kind: "gradient", slot: 0, of: 7 };
  assert.throws(() => nextRound([back, NONE], () => [0, 1]), /no rank can go on/);
});

/** Wishes of a rank: a micro-batch each, its solutions by iteration and then its tiles, there and back. */
const wishesOf = (microBatches: { rounds: number; tiles: number }[]): Wish[] =>
  microBatches.flatMap(({ rounds, tiles }, slot) => [
    ...Array.from({ length: rounds }, () => value(0)),
    ...Array.from({ length: tiles }, (_, turn): Wish[] => [
      record(slot, 0, turn),
      { kind: "gradient", slot, of: -1 },
    ]).flat(),
  ]);

test("ranks with other numbers of micro-batches, tiles and iterations all come to the end, and meet", () => {
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  for (let run = 0; run < 200; run++) {
    const lists = Array.from({ length: 2 + random(3) }, () =>
      wishesOf(Array.from({ length: random(4) }, () => ({ rounds: random(4), tiles: 1 + random(3) }))),
    );
    const total = lists.flat().length;
    const at = lists.map(() => 0);
    const recorded = new Map<number, readonly number[]>();
    /** The round that each rank goes back. */
    const own = lists.map(() => -1);
    let rounds = 0;
    for (;;) {
      const wishes = lists.map((list, rank): Wish => {
        const wish = list[at[rank]] ?? NONE;
        return wish.kind === "gradient" ? { ...wish, of: own[rank] } : wish;
      });
      const { kind, ranks } = nextRound(wishes, (of) => recorded.get(of) ?? []);
      if (kind === "none") break;
      rounds++;
      if (kind === "record") recorded.set(rounds, ranks);
      for (const rank of ranks) {
        if (kind === "record") own[rank] = rounds;
        at[rank]++;
      }
    }
    assert.deepEqual(
      at,
      lists.map((list) => list.length),
    );
    assert.ok(rounds <= total);
    const alike = lists.map((list) => JSON.stringify(list));
    if (alike.every((list) => list === alike[0])) assert.equal(rounds, lists[0].length);
  }
});
