// Documents in a file are those in memory, for whoever takes them, and cost twelve bytes each.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { type Batch, Batches, sequentialBatches } from "../batches.js";
import { type Document, type Documents, eachDocument, inMemory } from "../documents.js";
import { fingerprintData, sharedDocuments } from "../fingerprint.js";
import { seededGenerator } from "../shuffle.js";
import { folderOf } from "../tokenizer/testing-tokenizer.js";
import { DocumentsWriter, openDocuments } from "./documents-file.js";

function documentsOf(count: number, longest: number): Document[] {
  const next = seededGenerator(5, 6);
  return Array.from({ length: count }, (_, i) => {
    const length = 1 + (next() % longest);
    return {
      tokens: Int32Array.from({ length }, () => next() % 300_000),
      trained: Uint8Array.from({ length }, (_, t) => (t > 0 ? next() % 2 : 0)),
      place: `d\u00e9.jsonl:${i + 1}`,
    };
  });
}

function written(folder: string, documents: Document[]): Documents {
  const path = join(folder, "documents");
  const writer = new DocumentsWriter(path);
  for (let start = 0; start < documents.length; start += 1000) writer.add(documents.slice(start, start + 1000));
  writer.finish({ own: "record" }).close();
  const { documents: opened, about } = openDocuments(path);
  assert.deepEqual(about, { own: "record" });
  return opened;
}

test("batches, their order, and fingerprints are the same bits as of documents in memory", (t) => {
  const list = documentsOf(257, 40);
  const [memory, file] = [inMemory(list), written(folderOf(t, {}), list)];
  assert.deepEqual([...eachDocument(file)], list);
  for (const packing of [false, true]) {
    const settings = { rows: 3, max_length: 64, packing, seed: 7 };
    const [one, other] = [new Batches(memory, settings), new Batches(file, settings)];
    assert.equal(one.batchesPerEpoch, other.batchesPerEpoch);
    for (let i = 0; i < 2 * one.batchesPerEpoch; i++) assert.deepEqual(one.nextPlaced(), other.nextPlaced());
  }
  const held = (documents: Documents): Batch[] => sequentialBatches(documents, { rows: 2, max_length: 64 }).slice(3, 9);
  assert.equal(held(file).length, 6);
  assert.deepEqual(held(file), held(memory));
  const print = (documents: Documents, { facts }: Pick<Documents, "facts">) =>
    fingerprintData({
      documents: { ...documents, facts },
      evalDocuments: documents,
      tokenizer: undefined,
      chatTemplate: undefined,
    });
  assert.deepEqual(print(file, file), print(memory, {}));
  assert.deepEqual(print(file, {}), print(memory, {}));
  assert.deepEqual(sharedDocuments(inMemory([list[9]]), file), [list[9]]);
  assert.equal(file.facts?.largestToken, Math.max(...list.flatMap(({ tokens }) => [...tokens])));
  file.close();
});

test("a file of many documents takes twelve bytes of memory for each", (t) => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const bytesHeld = (): number => {
    collect();
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    return arrayBuffers + heapUsed;
  };
  const count = 200_000;
  const folder = folderOf(t, {});
  written(folder, documentsOf(count, 10)).close();
  const before = bytesHeld();
  const { documents } = openDocuments(join(folder, "documents"));
  let tokens = 0;
  for (const document of eachDocument(documents)) tokens += document.tokens.length;
  const held = bytesHeld() - before;
  // And a buffer or two; as objects they would take twenty times as much.
  assert.ok(held < 12 * count + 2 ** 21, `${held} bytes for ${documents.length} documents of ${tokens} tokens`);
  documents.close();
});
