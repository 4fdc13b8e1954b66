import assert from "node:assert/strict";
import { test } from "node:test";
import { type Batch, Batches, type BatchSettings, NO_LABEL, sequentialBatches } from "./batches.js";
import { type Document, inMemory } from "./documents.js";
import { seededGenerator } from "./shuffle.js";

/** Documents whose tokens tell document and position: 1000 * document + position. */
function documentsOf(lengths: number[], untrained = 1): Document[] {
  return lengths.map((length, d) => ({
    tokens: Int32Array.from({ length }, (_, i) => 1000 * d + i),
    trained: Uint8Array.from({ length }, (_, i) => (i < untrained ? 0 : 1)),
    place: `d.jsonl:${d + 1}`,
  }));
}
const settings = (more: Partial<BatchSettings> = {}): BatchSettings => ({
  rows: 2,
  max_length: 16,
  packing: false,
  seed: 7,
  ...more,
});
const idsOf = (batch: Batch): number[] =>
  batch.segments.map((_, s) => batch.tokens[batch.segments.slice(0, s).reduce((a, b) => a + b, 0)] / 1000);
const sequential = (documents: Document[], rows: number): Batch[] => {
  const batches = sequentialBatches(inMemory(documents), { rows, max_length: 16 });
  return batches.slice(0, batches.length);
};
const take = (batches: Batches, count: number): Batch[] => Array.from({ length: count }, () => batches.next());

test("a batch is its documents end to end; labels look one ahead and never past the end", () => {
  const documents = documentsOf([3, 4], 2);
  documents[1].trained.set([1, 0, 1, 1]);
  const [batch] = sequential(documents, 1);
  assert.deepEqual(batch, {
    tokens: Int32Array.of(0, 1, 2, 1000, 1001, 1002, 1003),
    labels: Int32Array.of(NO_LABEL, 2, NO_LABEL, NO_LABEL, 1002, 1003, NO_LABEL),
    positions: Int32Array.of(0, 1, 2, 0, 1, 2, 3),
    segments: [3, 4],
    trainedTokens: 3,
    places: documents.map(({ place }) => place),
  });
});

for (const packing of [false, true]) {
  test(`packing ${packing}: each document once an epoch, no label across documents, the last batch smaller`, () => {
    const next = seededGenerator(1, 2);
    const documents = documentsOf(Array.from({ length: 101 }, () => 2 + (next() % 14)));
    const batches = new Batches(inMemory(documents), settings({ packing, rows: 3 }));
    if (!packing) assert.equal(batches.batchesPerEpoch, 34);
    for (let epoch = 0; epoch < 3; epoch++) {
      assert.deepEqual(batches.state(), { epoch, position: 0 });
      const all = take(batches, batches.batchesPerEpoch);
      assert.deepEqual(
        all.flatMap(idsOf).sort((a, b) => a - b),
        documents.map((_, d) => d),
      );
      for (const { tokens, labels, positions, segments, trainedTokens } of all) {
        assert.equal(
          segments.reduce((a, b) => a + b, 0),
          tokens.length,
        );
        assert.ok(tokens.length <= 3 * 16);
        assert.equal(labels.filter((label) => label !== NO_LABEL).length, trainedTokens);
        for (const [i, label] of labels.entries()) {
          assert.equal(positions[i], tokens[i] % 1000);
          const length = documents[Math.floor(tokens[i] / 1000)].tokens.length;
          assert.equal(label, positions[i] === length - 1 ? NO_LABEL : tokens[i] + 1);
        }
      }
      if (!packing)
        assert.deepEqual(
          all.map(({ segments }) => segments.length),
          [...new Array<number>(33).fill(3), 2],
        );
    }
  });
}

test("packing makes rows of several documents, no packing rows of one", () => {
  const documents = documentsOf([8, 8, 8, 8, 8, 8]);
  assert.equal(new Batches(inMemory(documents), settings()).batchesPerEpoch, 3);
  const packed = new Batches(inMemory(documents), settings({ packing: true }));
  assert.equal(packed.batchesPerEpoch, 2);
  assert.deepEqual(
    take(packed, 2)
      .map(({ tokens }) => tokens.length)
      .sort((a, b) => a - b),
    [16, 32],
  );
});

test("the order depends on seed and epoch alone", () => {
  const documents = documentsOf(new Array<number>(40).fill(4));
  const order = (seed: number, from: number): number[] => {
    const batches = new Batches(inMemory(documents), settings({ seed }));
    batches.restore({ epoch: from, position: 0 });
    return take(batches, 20).flatMap(idsOf);
  };
  const walked = new Batches(inMemory(documents), settings());
  take(walked, 20);
  assert.deepEqual(take(walked, 20).flatMap(idsOf), order(7, 1));
  assert.notDeepEqual(order(7, 0), order(7, 1));
  assert.notDeepEqual(order(7, 0), order(8, 0));
});

test("a run goes on in the middle of an epoch as if it had not stopped", () => {
  const next = seededGenerator(4, 4);
  const documents = documentsOf(Array.from({ length: 57 }, () => 2 + (next() % 14)));
  for (const packing of [false, true]) {
    const whole = new Batches(inMemory(documents), settings({ packing }));
    const perEpoch = whole.batchesPerEpoch;
    for (const stop of [0, 1, 5, perEpoch - 1, perEpoch, perEpoch + 3]) {
      const first = new Batches(inMemory(documents), settings({ packing }));
      take(first, stop);
      const state = JSON.parse(JSON.stringify(first.state())) as { epoch: number; position: number };
      assert.deepEqual(state, { epoch: Math.floor(stop / perEpoch), position: stop % perEpoch });
      const resumed = new Batches(inMemory(documents), settings({ packing }));
      resumed.restore(state);
      assert.deepEqual(take(resumed, perEpoch), take(first, perEpoch));
    }
  }
});

test("the state is the caller's own copy, and one that cannot be is refused", () => {
  const batches = new Batches(inMemory(documentsOf([4, 4, 4])), settings());
  const state = batches.state();
  state.position = 9;
  assert.deepEqual(batches.state(), { epoch: 0, position: 0 });
  for (const bad of [
    { epoch: 3, position: 2 },
    { epoch: 3, position: -1 },
    { epoch: 0.5, position: 0 },
  ]) {
    assert.throws(() => batches.restore(bad), {
      name: "UserError",
      message:
        /^resume: batch -?\d of epoch [\d.]+ does not exist \(expected a batch below 2, as an epoch has that many\)\. The data or the batch settings/,
    });
  }
});

test("for evaluation: everything once, in order, as many as fit", () => {
  const documents = documentsOf([10, 10, 12, 3, 16, 16, 2]);
  const batches = sequential(documents, 2);
  assert.deepEqual(
    batches.map(({ segments }) => segments),
    [
      [10, 10, 12],
      [3, 16],
      [16, 2],
    ],
  );
  assert.deepEqual(batches.flatMap(idsOf), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(sequential([], 2), []);
});

test("a step has as many batches as it may, or those that the epoch has left", () => {
  const batches = new Batches(inMemory(documentsOf([2, 2, 2, 2, 2])), settings({ rows: 1 }));
  const sizes = [2, 2, 2, 3, 9].map((most) =>
    batches
      .nextStep(most)
      .map(({ at }) => `${at.epoch}/${at.position}`)
      .join(),
  );
  assert.deepEqual(sizes, ["0/0,0/1", "0/2,0/3", "0/4", "1/0,1/1,1/2", "1/3,1/4"]);
  // One that is left out is no part of a step, and its epoch ends without it.
  const without = new Batches(inMemory(documentsOf([2, 2, 2])), settings({ rows: 1 }));
  for (const position of [0, 2]) without.leaveOut({ epoch: 0, position });
  const places = (most: number): string[] => without.nextStep(most).map(({ at }) => `${at.epoch}/${at.position}`);
  assert.deepEqual([places(2), places(3)], [["0/1"], ["1/0", "1/1", "1/2"]]);
});

test("without shuffling, every epoch has the rows in their own order", () => {
  for (const packing of [false, true]) {
    const batches = new Batches(
      inMemory(documentsOf([3, 3, 3, 3, 3])),
      settings({ shuffle: false, packing, max_length: 6, rows: 1 }),
    );
    const ids = take(batches, 2 * batches.batchesPerEpoch).flatMap(idsOf);
    assert.deepEqual(ids.slice(0, 5), ids.slice(5));
    assert.deepEqual(ids.slice(0, 5), [0, 1, 2, 3, 4]);
  }
});
