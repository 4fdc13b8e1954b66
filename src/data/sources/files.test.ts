import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { filesOf } from "./files.js";
import { fitsGlob } from "./glob.js";
import { parseSources } from "./parse.js";
import { sourcesAsText } from "./as-text.js";

const folder = mkdtempSync(join(tmpdir(), "revmoe-files-"));
after(() => rmSync(folder, { recursive: true }));

function make(name: string, ...paths: string[]): string {
  for (const path of paths) {
    mkdirSync(dirname(join(folder, name, path)), { recursive: true });
    writeFileSync(join(folder, name, path), path.endsWith(".md") ? CARD : "");
  }
  return join(folder, name);
}

const CARD = `---
configs:
- config_name: chat
  data_files:
  - split: train_sft
    path: "chat/train-*"
  - split: test
    path: [chat/test-0.parquet, "chat/more/**"]
- config_name: code
  data_files: "code/*.jsonl"
---
# A set
`;

async function found(text: string, root = folder): Promise<string[]> {
  const [source] = parseSources(text);
  return (await filesOf(source)).map((path) => relative(root, path));
}

test("stars, folders and letters in names", () => {
  for (const [pattern, path, fits] of [
    ["*.jsonl", "a.jsonl", true],
    ["*.jsonl", "b/a.jsonl", false],
    ["**/*.jsonl", "b/c/a.jsonl", true],
    ["**/*.jsonl", "a.jsonl", true],
    ["a?.[jt]*", "ab.txt", true],
    ["[!a].txt", "a.txt", false],
    ["a+b(1).*", "a+b(1).csv", true],
  ] as const)
    assert.equal(fitsGlob(pattern, path), fits, `${pattern} ${path}`);
});

test("globs give the files that fit, sorted; a name that exists is taken as it stands", async () => {
  const root = make("globs", "b.jsonl", "a.jsonl", "c.txt", "in/d.jsonl", ".hidden.jsonl", "x[1].jsonl", "a,b:2.jsonl");
  assert.deepEqual(await found(`${root}/*.jsonl[:5]:0.5`, root), ["a,b:2.jsonl", "a.jsonl", "b.jsonl", "x[1].jsonl"]);
  assert.deepEqual(await found(`${root}/**/*.jsonl`, root), [
    "a,b:2.jsonl",
    "a.jsonl",
    "b.jsonl",
    "in/d.jsonl",
    "x[1].jsonl",
  ]);
  assert.deepEqual(await found(`${root}/x[1].jsonl`, root), ["x[1].jsonl"]);
  assert.deepEqual(await found(`${root}/a,b:2.jsonl`, root), ["a,b:2.jsonl"]);
  await assert.rejects(found(`${root}/*.parquet`), { name: "UserError", message: /no file fits[^[]*folder\.$/ });
  for (const part of ["[2]", "[:x]", "["])
    await assert.rejects(found(`${root}/b.jsonl${part}`), { name: "UserError", message: /no file fits.* as \[test\]/ });
});

test("a folder gives its split, by name, by what datasets saved, or by its card", async () => {
  const named = make(
    "named",
    "data/train-00000-of-00002.parquet",
    "data/train-00001-of-00002.parquet",
    "data/test-0.parquet",
  );
  assert.deepEqual(await found(named, named), [
    "data/train-00000-of-00002.parquet",
    "data/train-00001-of-00002.parquet",
  ]);
  assert.deepEqual(await found(`${named}[test]`, named), ["data/test-0.parquet"]);
  await assert.rejects(found(`${named}[validation]`), { message: /no split "validation" \(found "train", "test"\)/ });
  const texts = make("texts", "b.txt", "sub/a.txt", "LICENSE.txt");
  assert.deepEqual(await found(texts, texts), ["b.txt", "sub/a.txt"]);

  const golden = fileURLToPath(new URL("../../../test/golden/formats/saved", import.meta.url));
  assert.deepEqual(await found(golden, golden), ["train/data-00000-of-00001.arrow"]);
  assert.deepEqual(await found(`${golden}[test]`, golden), ["test/data-00000-of-00001.arrow"]);
  await assert.rejects(found(`${golden}[dev]`), { message: /no split "dev" \(found "train", "test"\)/ });

  const carded = make(
    "carded",
    ...[
      "README.md",
      "chat/train-0.parquet",
      "chat/train-1.parquet",
      "chat/test-0.parquet",
      "chat/more/x.parquet",
      "code/a.jsonl",
    ],
  );
  assert.deepEqual(await found(`${carded}[chat/train_sft]`, carded), ["chat/train-0.parquet", "chat/train-1.parquet"]);
  assert.deepEqual(await found(`${carded}[chat/test]`, carded), ["chat/more/x.parquet", "chat/test-0.parquet"]);
  assert.deepEqual(await found(`${carded}[code/train:7]`, carded), ["code/a.jsonl"]);
  await assert.rejects(found(carded), { message: /has the subsets "chat", "code" \(expected one\)/ });
  await assert.rejects(found(`${carded}[chat/train]`), { message: /no split "train" \(found "train_sft", "test"\)/ });
});

test("sources as text and as a list are the same", () => {
  assert.deepEqual(parseSources("a.jsonl:0.7,b/*.parquet[:100]:.3"), [
    { file: "a.jsonl", weight: 0.7 },
    { file: "b/*.parquet", weight: 0.3, rows: 100 },
  ]);
  assert.deepEqual(parseSources("org/name@v1[en/test:5]"), [
    { file: "org/name@v1", subset: "en", split: "test", rows: 5 },
  ]);
  const list = [{ file: "a.jsonl", weight: 2, columns: { prompt: "q" } }, "b.csv:1"];
  assert.deepEqual(parseSources(sourcesAsText(list)), [
    { file: "a.jsonl", weight: 2, columns: { prompt: "q" } },
    { file: "b.csv", weight: 1 },
  ]);
  assert.equal(sourcesAsText(["a.jsonl:1", "b.jsonl:2"]), "a.jsonl:1,b.jsonl:2");
});

test("a list may be longer than any path", () => {
  const names = Array.from({ length: 400 }, (_, i) => `part-${i}-of-a-set.jsonl`);
  assert.deepEqual(
    parseSources(names.join(",")),
    names.map((file) => ({ file })),
  );
  assert.equal(parseSources(sourcesAsText(names.map((file) => ({ file, rows: 1 })))).length, 400);
});

test("a glob may begin with a bracket", () => {
  for (const file of ["[0-9].jsonl", "[ab]", "[!x]*.csv"]) assert.deepEqual(parseSources(file), [{ file }]);
});

test("what is wrong with sources is a sentence that names the setting", () => {
  for (const [given, message] of [
    ["a.jsonl:0.7,b.jsonl", /^train_file: a\.jsonl has a weight and b\.jsonl has none/],
    ["a.jsonl,,b.jsonl", /^train_file: an empty name/],
    ["a.jsonl:0", /^train_file: a\.jsonl:0: weight is 0 \(expected a number above 0\)/],
    ['[{"file": "a", "wieght": 1}]', /^train_file\[0\]: "wieght" is unknown .* Did you mean "weight"\?/],
    ['[{"file": "a", "rows": 1.5}]', /rows is 1\.5 \(expected an integer above 0\)/],
    ['[{"file": "a", "file_format": "xls"}]', /file_format is "xls" \(expected json, jsonl, csv/],
    ['[{"weight": 1}]', /^train_file\[0\]: file is missing/],
    ['[{"file": 1}]', /^train_file\[0\]: file is the number 1 \(expected a text\)/],
    ['["a", 5]', /^train_file\[1\] is the number 5/],
    ['["a"', /^train_file: not valid JSON/],
    ["[3]", /^train_file\[0\] is the number 3/],
    ["[null]", /^train_file\[0\] is null/],
    ['[["a"]]', /^train_file\[0\] is an array of 1/],
    ["[]", /^train_file: the list is empty/],
  ] as const)
    assert.throws(() => parseSources(given), { name: "UserError", message }, given);
});
