import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { describe, readRows } from "./rows.js";
import { folderOf } from "./tokenizer/testing-tokenizer.js";

test("JSON lines: blank lines are skipped but counted, a byte-order mark and CRLF are fine", (t) => {
  const folder = folderOf(t, { "a.jsonl": '\uFEFF{"text": "Gr\u00fc\u00dfe \u{1F600}"}\r\n\r\n  \n{"text": "b"}' });
  const path = join(folder, "a.jsonl");
  assert.deepEqual(readRows(path), [
    { value: { text: "Gr\u00fc\u00dfe \u{1F600}" }, place: `${path}:1` },
    { value: { text: "b" }, place: `${path}:4` },
  ]);
});

test("JSON lines longer than a chunk, and letters cut by its end, come whole", (t) => {
  const rows = Array.from({ length: 40 }, (_, i) => ({
    i,
    text: "\u00e4\u{1F600}x".repeat(i === 7 ? 1_500_000 : 1000 + i),
  }));
  const folder = folderOf(t, { "a.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") });
  assert.deepEqual(
    readRows(join(folder, "a.jsonl")).map(({ value }) => value),
    rows,
  );
});

test("a JSON array and a text file", (t) => {
  const folder = folderOf(t, { "a.json": [{ text: "a" }, { text: "b" }], "b.txt": "one\n\ntwo\n" });
  assert.deepEqual(
    readRows(join(folder, "a.json")).map(({ value, place }) => [value, place]),
    [
      [{ text: "a" }, `${join(folder, "a.json")}: row 1`],
      [{ text: "b" }, `${join(folder, "a.json")}: row 2`],
    ],
  );
  assert.deepEqual(
    readRows(join(folder, "b.txt")).map(({ value }) => value),
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
  ["a.json", '{"data": []}', /a\.json: the file holds an object with the keys "data" \(expected an array of objects\)/],
  ["a.json", "[]", /a\.json: the file has no rows/],
  ["a.json", '[{"a": 1}, null]', /a\.json: row 2: the row is null/],
  ["a.json", "", /a\.json: the file has no rows/],
  ["a.txt", " \n", /a\.txt: the file has no rows/],
  ["a.txt", new Uint8Array([0xc3, 0x28]), /a\.txt: the bytes are not UTF-8/],
  ["a.csv", "a,b", /a\.csv: files ending in "\.csv" are not known \(expected \.jsonl, \.json or \.txt\)/],
  ["a.parquet", "PAR1", /a\.parquet: Parquet files are not read yet .* Convert it once: python3 -c .*to_json/],
];

for (const [name, content, message] of BAD) {
  test(`refused: ${name} with ${JSON.stringify(String(content)).slice(0, 40)}`, (t) => {
    const folder = folderOf(t, { [name]: content });
    assert.throws(() => readRows(join(folder, name)), { name: "UserError", message });
  });
}

test("refused: no such file, and a folder", (t) => {
  const folder = folderOf(t, {});
  assert.throws(() => readRows(join(folder, "none.jsonl")), {
    name: "UserError",
    message: /none\.jsonl: there is no such file/,
  });
  assert.throws(() => readRows(folder), { name: "UserError", message: /: this is a folder \(expected a \.jsonl/ });
});

test("values in few words", () => {
  assert.deepEqual([undefined, null, [], [1], {}, "x".repeat(50), 5, true].map(describe), [
    "missing",
    "null",
    "an empty array",
    "an array of 1",
    "an object with the keys (none)",
    `the text "${"x".repeat(40)}..."`,
    "the number 5",
    "the boolean true",
  ]);
});
