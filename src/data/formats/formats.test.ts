// The same rows in every format, written by pyarrow, datasets and pandas (test/golden/make_formats.py), and what is said of
// files that are damaged.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { JsonFloat } from "../json-values.js";
import type { Row } from "../rows.js";
import { FORMAT_LIMITS } from "./limits.js";
import { openFile } from "./open-file.js";

const GOLDEN = fileURLToPath(new URL("../../../test/golden/formats/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "revmoe-formats-"));
after(() => rmSync(folder, { recursive: true }));

async function rowsOf(path: string, wanted?: string): Promise<Row[]> {
  const all: Row[] = [];
  const file = await openFile(path, wanted);
  for await (const rows of file.rows()) all.push(...rows);
  return all;
}

const valuesOf = async (name: string): Promise<unknown[]> =>
  (await rowsOf(join(GOLDEN, name))).map(({ value }) => value);
const nested = await valuesOf("nested.jsonl");
const flat = await valuesOf("flat.jsonl");

test("nested rows are the same from every file, without the nulls that a table fills in", async () => {
  for (const name of [
    ...["snappy", "zstd", "gzip", "brotli", "lz4", "none", "pages"].map((codec) => `${codec}.parquet`),
    ...["stream.arrow", "zstd.feather", "plain.feather", "nested.json", "nested.jsonl.gz", "nested.jsonl.zst"],
  ]) {
    const values = await valuesOf(name);
    assert.equal(values.length, 42, name);
    for (const [i, value] of values.entries()) assert.deepEqual(value, nested[i], `${name}, row ${i + 1}`);
  }
});

test("columns of every type are what JSON would have had", async () => {
  const types = await valuesOf("types.jsonl");
  for (const name of ["types.parquet", "types.arrow"]) {
    const values = await valuesOf(name);
    assert.equal(values.length, 5, name);
    for (const [i, value] of values.entries()) assert.deepEqual(value, types[i], `${name}, row ${i + 1}`);
  }
});

test("flat tables are texts in every cell, be they what they may", async () => {
  for (const name of ["flat.csv", "flat.tsv", "semicolons.csv", "array.json"])
    assert.deepEqual(await valuesOf(name), flat, name);
  const [first] = await rowsOf(join(GOLDEN, "flat.csv"));
  assert.match(first.place, /flat\.csv: row 1, line 3$/);
});

test("whole floats and integers beyond 2^53 keep what they are", async () => {
  for (const name of ["zstd.parquet", "stream.arrow", "nested.jsonl"]) {
    const [first] = (await valuesOf(name)) as { id: unknown; score: unknown; messages: never[] }[];
    assert.equal(first.id, 9007199254740993n, name);
    assert.ok(first.score instanceof JsonFloat && Number(first.score) === 10, name);
  }
});

test("a name without an ending is known by its content, and compression by its first bytes", async () => {
  for (const name of [
    "snappy.parquet",
    "stream.arrow",
    "zstd.feather",
    "nested.json",
    "nested.jsonl",
    "nested.jsonl.gz",
  ]) {
    const path = join(folder, "unnamed");
    copyFileSync(join(GOLDEN, name), path);
    assert.deepEqual(
      (await rowsOf(path)).map(({ value }) => value),
      nested,
      name,
    );
  }
  const csv = join(folder, "table.csv.gz");
  writeFileSync(csv, gzipSync(readFileSync(join(GOLDEN, "flat.csv"))));
  assert.deepEqual(
    (await rowsOf(csv)).map(({ value }) => value),
    flat,
  );
  copyFileSync(join(GOLDEN, "flat.csv"), join(folder, "unknown"));
  await assert.rejects(rowsOf(join(folder, "unknown")), {
    name: "UserError",
    message: /neither its name nor its first/,
  });
  assert.deepEqual(
    (await rowsOf(join(folder, "unknown"), "csv")).map(({ value }) => value),
    flat,
  );
});

function written(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

test("damage is a sentence with the file and the row", async () => {
  const golden = (name: string): Buffer => readFileSync(join(GOLDEN, name));
  const cut = (name: string): Uint8Array => golden(name).subarray(0, -200);
  const broken = Buffer.from(golden("snappy.parquet"));
  broken.fill(0xff, 60, 400);
  const cases: [string, string | Uint8Array, RegExp][] = [
    ["a.parquet", cut("snappy.parquet"), /a\.parquet: the file cannot be read as Parquet/],
    ["b.parquet", "PAR1", /b\.parquet: the file cannot be read/],
    ["c.parquet", broken, /c\.parquet: rows 1 .*cannot be read/],
    ["d.parquet.gz", gzipSync(golden("snappy.parquet")), /d\.parquet\.gz: Parquet inside gzip/],
    ["e.arrow", golden("stream.arrow").subarray(0, 3000), /e\.arrow: row \d+ cannot be read as Arrow/],
    ["no.arrow", Buffer.from("hello"), /no\.arrow: row 1 cannot be read as Arrow/],
    ["f.csv", "a,b\n1,2\n3\n", /f\.csv: row 2, line 3: 1 cells \(expected 2/],
    ["g.csv", 'a,b\n1,"2\n', /g\.csv: row 1: /],
    ["h.csv", "a,a\n1,2\n", /h\.csv: two columns "a"/],
    ["i.csv", Buffer.from([97, 10, 255, 254, 10]), /i\.csv: bytes behind line 1 are not UTF-8/],
    ["j.jsonl.gz", golden("nested.jsonl.gz").subarray(0, 600), /j\.jsonl\.gz: the gzip around the file is damaged/],
    ["k.jsonl.zst", golden("nested.jsonl.zst").subarray(0, 600), /k\.jsonl\.zst: the zstd around the file is damaged/],
    ["l.json", '{"data": [{"a": 1}, {"a": }]}', /l\.json:1: row 2: not valid JSON/],
    ["m.json", '{"rows": [{"a": 1}, 5]}', /m\.json: row 2: the row is the number 5/],
  ];
  for (const [name, content, message] of cases)
    await assert.rejects(rowsOf(written(name, content)), { name: "UserError", message }, name);
});

test("a small file that becomes a large one ends in a sentence", async () => {
  const bomb = written("bomb.jsonl.gz", gzipSync(Buffer.alloc(FORMAT_LIMITS.row + 2 ** 22)));
  await assert.rejects(rowsOf(bomb), { name: "UserError", message: /bomb\.jsonl\.gz:1: the line has more than/ });
});
