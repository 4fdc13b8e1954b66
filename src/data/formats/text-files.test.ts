import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { Row } from "../rows.js";
import { parseSources } from "../sources/parse.js";
import { readAllRows } from "../sources/open-sources.js";
import { folderOf } from "../tokenizer/testing-tokenizer.js";

const readRows = (path: string): Promise<Row[]> => readAllRows(parseSources([{ file: path }]));

test("JSON lines: blank lines are skipped but counted, a byte-order mark and CRLF are fine", async (t) => {
  const folder = folderOf(t, { "a.jsonl": '\uFEFF{"text": "Gr\u00fc\u00dfe \u{1F600}"}\r\n\r\n  \n{"text": "b"}' });
  const path = join(folder, "a.jsonl");
  assert.deepEqual(await readRows(path), [
    { value: { text: "Gr\u00fc\u00dfe \u{1F600}" }, place: `${path}:1` },
    { value: { text: "b" }, place: `${path}:4` },
  ]);
});

test("JSON lines longer than a chunk, and letters cut by its end, come whole", async (t) => {
  const rows = Array.from({ length: 40 }, (_, i) => ({
    i,
    text: "\u00e4\u{1F600}x".repeat(i === 7 ? 1_500_000 : 1000 + i),
  }));
  const folder = folderOf(t, { "a.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") });
  assert.deepEqual(
    (await readRows(join(folder, "a.jsonl"))).map(({ value }) => value),
    rows,
  );
});

test("a JSON array and a text file", async (t) => {
  const folder = folderOf(t, { "a.json": [{ text: "a" }, { text: "b" }], "b.txt": "one\n\ntwo\n" });
  assert.deepEqual(
    (await readRows(join(folder, "a.json"))).map(({ value, place }) => [value, place]),
    [
      [{ text: "a" }, `${join(folder, "a.json")}: row 1`],
      [{ text: "b" }, `${join(folder, "a.json")}: row 2`],
    ],
  );
  assert.deepEqual(
    (await readRows(join(folder, "b.txt"))).map(({ value }) => value),
    [{ text: "one\n\ntwo\n" }],
  );
});

const BAD: [name: string, content: string | Uint8Array, message: RegExp][] = [
  [
    "a.jsonl",
    '{"a": 1}\n\n{"a": 2,}\n',
    /^.*a\.jsonl:3: not valid JSON: .+\. Each line of a \.jsonl file must be one object\.$/,
  ],
  ["a.jsonl", '{"a": 1}\n[1, 2]\n', /a\.jsonl:2: the row is an array of 2 \(expected an object/],
  ["a.jsonl", '"word"\n', /a\.jsonl:1: the row is the text "word" \(expected an object/],
  ["a.jsonl", "\n \n", /a\.jsonl: the file has no rows/],
  ["a.jsonl", new Uint8Array([0x7b, 0xff, 0x7d]), /a\.jsonl:1: the bytes are not UTF-8/],
  ["a.json", '[\n{"a": 1},\n{"a": x}\n]', /a\.json:3: row 2: not valid JSON: .+ let its name end in \.jsonl\.$/],
  ["a.json", '[{"a": "]"},\n{"b": 1}, {"c": 2', /a\.json:2: row 3: not valid JSON: /],
  ["a.json", "hello", /a\.json: not valid JSON: /],
  ["a.json", '{"data": []}', /a\.json: the file has no rows/],
  [
    "a.json",
    '{"all": []}',
    /a\.json: the file holds an object with the keys "all" \(expected an array of objects, or one/,
  ],
  ["a.json", "[]", /a\.json: the file has no rows/],
  ["a.json", '[{"a": 1}, null]', /a\.json: row 2: the row is null/],
  ["a.json", "", /a\.json: the file has no rows/],
  ["a.txt", " \n", /a\.txt: the file has no rows/],
  ["a.txt", new Uint8Array([0xc3, 0x28]), /a\.txt: the bytes are not UTF-8/],
];

for (const [name, content, message] of BAD) {
  test(`refused: ${name} with ${JSON.stringify(String(content)).slice(0, 40)}`, async (t) => {
    const folder = folderOf(t, { [name]: content });
    await assert.rejects(readRows(join(folder, name)), { name: "UserError", message });
  });
}

test("refused: no such file, and a folder", async (t) => {
  const folder = folderOf(t, {});
  await assert.rejects(readRows(join(folder, "none.jsonl")), {
    name: "UserError",
    message: /none\.jsonl: there is no such file/,
  });
  await assert.rejects(readRows(folder), { name: "UserError", message: /: no file of rows in it \(found nothing\)/ });
});
