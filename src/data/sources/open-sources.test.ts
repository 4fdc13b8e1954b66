import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openSources, type RowBatch } from "./open-sources.js";
import { parseSources } from "./parse.js";

const folder = mkdtempSync(join(tmpdir(), "revmoe-sources-"));
after(() => rmSync(folder, { recursive: true }));
const settings = { format: "auto", columns: {}, seed: 42 } as const;

function fileOf(name: string, count: number): string {
  const path = join(folder, name);
  const rows = Array.from({ length: count }, (_, i) => JSON.stringify({ text: `${name} ${i}`, id: i }));
  writeFileSync(path, rows.join("\n"));
  return path;
}

async function textsOf(batches: AsyncIterable<RowBatch>): Promise<string[]> {
  const texts: string[] = [];
  for await (const { rows } of batches) texts.push(...rows.map(({ value }) => value.text as string));
  return texts;
}

test("files follow each other, and limits hold", async () => {
  const [a, b] = [fileOf("a.jsonl", 700), fileOf("b.jsonl", 5)];
  const opened = await openSources(parseSources(`${a}[:600],${b}`), settings);
  const texts = await textsOf(opened.batches());
  assert.equal(texts.length, 605);
  assert.deepEqual([texts[0], texts[599], texts[600]], ["a.jsonl 0", "a.jsonl 599", "b.jsonl 0"]);
  assert.deepEqual(opened.rowsTaken(), [600, 5]);
  assert.deepEqual(opened.formats, ["text", "text"]);
});

test("weights draw rows by the seed until one file is at its end, none of them twice", async () => {
  const [a, b] = [fileOf("c.jsonl", 3000), fileOf("d.jsonl", 300)];
  const mix = parseSources(`${a}:0.7,${b}:0.3`);
  const texts = await textsOf((await openSources(mix, settings)).batches());
  const again = await openSources(mix, settings);
  assert.deepEqual(await textsOf(again.batches()), texts);
  assert.deepEqual(await textsOf(again.batches()), texts, "a second reading");
  assert.notDeepEqual(await textsOf((await openSources(mix, { ...settings, seed: 1 })).batches()), texts);
  assert.equal(new Set(texts).size, texts.length);
  let batches = 0;
  for await (const { rows } of again.batches()) {
    batches++;
    assert.ok(rows.length > 0 && rows.length < 2000);
  }
  assert.ok(batches < 10, `${batches} batches`);
  const ofB = texts.filter((text) => text.startsWith("d"));
  assert.equal(ofB.length, 300);
  assert.deepEqual(
    ofB,
    ofB.map((_, i) => `d.jsonl ${i}`),
    "the order within a file",
  );
  const share = ofB.length / texts.length;
  assert.ok(share > 0.25 && share < 0.35, `${share}`);
});
