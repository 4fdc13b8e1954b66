// The fingerprint of data tells what differs and where, for few documents and for many.
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Document, inMemory } from "./documents.js";
import { fingerprintData, firstDifference, isReordered, readFingerprint, sharedDocuments } from "./fingerprint.js";

const documentOf = (tokens: number[], trained = tokens.map(() => 1)): Document => ({
  tokens: Int32Array.from(tokens),
  trained: Uint8Array.from(trained),
  place: `rows:${tokens[0]}`,
});
const many = (count: number): Document[] => Array.from({ length: count }, (_, i) => documentOf([i, 7, i % 3]));
const fingerprint = (documents: Document[], changes = {}) =>
  fingerprintData({
    documents: inMemory(documents),
    evalDocuments: inMemory([]),
    tokenizer: Buffer.from("{}"),
    chatTemplate: undefined,
    ...changes,
  });
const rows = (documents: Document[]) => fingerprint(documents).trained;

test("a token, what is trained, where a document ends, and the order each change the digest", () => {
  const base = [documentOf([1, 2, 3]), documentOf([4, 5])];
  for (const other of [
    [documentOf([1, 2, 4]), documentOf([4, 5])],
    [documentOf([1, 2, 3], [0, 0, 1]), documentOf([4, 5])],
    [documentOf([1, 2]), documentOf([3, 4, 5])],
    [documentOf([4, 5]), documentOf([1, 2, 3])],
  ]) {
    assert.notEqual(rows(other).digest, rows(base).digest);
  }
  assert.equal(rows(base).digest, rows([documentOf([1, 2, 3]), documentOf([4, 5])]).digest);
});

for (const count of [1, 512, 513, 5000]) {
  test(`of ${count} documents, the first that differs is found to within one part`, () => {
    const before = rows(many(count));
    assert.equal(firstDifference(before, rows(many(count))), null);
    for (const at of [0, Math.floor(count / 2), count - 1]) {
      const changed = many(count);
      changed[at] = documentOf([-1]);
      const { first, last } = firstDifference(before, rows(changed)) ?? assert.fail("must differ");
      assert.ok(first <= at && at <= last && last - first <= Math.ceil(count / 512), `${first} ${at} ${last}`);
    }
  });
}

test("another order is told from other rows; shared documents are found; a fingerprint comes back from JSON", () => {
  const documents = many(20);
  const turned = [...documents].reverse();
  assert.ok(isReordered(rows(documents), rows(turned)));
  assert.ok(!isReordered(rows(documents), rows([...documents.slice(1), documentOf([99])])));
  assert.deepEqual(sharedDocuments(inMemory([documentOf([99]), documents[3]]), inMemory(documents)), [documents[3]]);
  const made = fingerprint(documents, { evalDocuments: inMemory(turned), chatTemplate: "t" });
  assert.deepEqual(readFingerprint(JSON.parse(JSON.stringify(made))), made);
  for (const bad of [null, undefined, 3, {}, { ...made, trained: 1 }, { ...made, heldOut: { digest: "" } }])
    assert.equal(readFingerprint(bad), null);
});
