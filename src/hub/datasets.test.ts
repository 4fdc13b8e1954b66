// Data sets by name, against a hub of our own: the files of one split, once, resumed, and read as any folder is.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { parseSources } from "../data/sources/parse.js";
import { readAllRows } from "../data/sources/open-sources.js";
import { resolveSources } from "./datasets.js";
import { startHub, type TestingHub } from "./testing-hub.js";

const PARQUET = readFileSync(fileURLToPath(new URL("../../test/golden/formats/snappy.parquet", import.meta.url)));
const CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/first-*\n---\n";
const line = (text: string): Buffer => Buffer.from(`${JSON.stringify({ text })}\n`);

interface Place {
  hub: TestingHub;
  text: () => string;
  resolve(given: string, preferCached?: boolean): Promise<string>;
}

async function makePlace(t: TestContext, files: Record<string, Buffer>): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-sets-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const hub = await startHub(t, new Map(Object.entries(files)));
  let text = "";
  const out = { write: (part: string) => (text += part) };
  const env = { HF_ENDPOINT: hub.endpoint, REVMOE_CACHE: join(folder, "cache") };
  const resolve = (given: string, preferCached = false): Promise<string> =>
    resolveSources(given, "train_file", { out, env, preferCached, attempts: 3, waitMs: 1 });
  return { hub, text: () => text, resolve };
}

const SPLITS = {
  "README.md": Buffer.from("about"),
  "data/train-00000-of-00002.jsonl": line("a"),
  "data/train-00001-of-00002.jsonl": line("b"),
  "data/test-00000-of-00001.jsonl": line("c"),
  "model.py": Buffer.from("x"),
};

const textsOf = async (given: string): Promise<unknown[]> =>
  (await readAllRows(parseSources(given))).map(({ value }) => value.text);
const fetched = (hub: TestingHub): string[] =>
  hub.seen.filter((line) => line.includes("/resolve/")).map((line) => line.replace(/.*[0-9a-f]{40}\//, ""));

test("the files of a split come, once, and are read as a folder", async (t) => {
  const { hub, text, resolve } = await makePlace(t, SPLITS);
  const train = await resolve("org/name");
  assert.deepEqual(await textsOf(train), ["a", "b"]);
  assert.deepEqual(fetched(hub), ["README.md", "data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]);
  assert.match(text(), /fetching 2 files of org\/name, commit [0-9a-f]{40}/);

  const mixed = await resolve("org/name[test]:0.5,org/name[train:1]:0.5");
  assert.deepEqual(
    parseSources(mixed).map(({ split, rows, weight }) => [split, rows, weight]),
    [
      ["test", undefined, 0.5],
      ["train", 1, 0.5],
    ],
  );
  assert.deepEqual(fetched(hub).filter((path) => path.includes("train")).length, 2, "train came once");

  hub.close();
  assert.equal(await resolve("org/name"), train, "from the cache when the hub is away");
  assert.match(text(), /cannot be reached; org\/name is commit [0-9a-f]{40} from the cache/);
});

test("a card says which files a split has; what breaks off goes on", async (t) => {
  const { hub, resolve } = await makePlace(t, {
    "README.md": Buffer.from(CARD),
    "data/first-0.parquet": PARQUET,
    "data/second-0.parquet": PARQUET,
  });
  hub.faults.cut = { file: "data/first-0.parquet", share: 0.5, times: 1 };
  const given = await resolve("org/name@main");
  assert.equal((await readAllRows(parseSources(given))).length, 42);
  assert.deepEqual(fetched(hub), [
    "README.md",
    "data/first-0.parquet",
    `data/first-0.parquet bytes=${Math.floor(PARQUET.length / 2)}-`,
  ]);
  const before = hub.seen.length;
  assert.equal(await resolve("org/name@main", true), given);
  assert.equal(hub.seen.length, before, "nobody asks for what is complete");
});

test("names of files are no names of sets, and what is not there is said", async (t) => {
  const { hub, resolve } = await makePlace(t, SPLITS);
  for (const given of ["data/rows.jsonl", "data/*", "rows.csv:1,b.parquet:2", ""])
    assert.equal(await resolve(given), given);
  assert.equal(hub.seen.length, 0);
  await assert.rejects(resolve("org/none"), {
    name: "UserError",
    message: /^org\/none: is no file or folder here, and no data set of http/,
  });
  await assert.rejects(resolve("org/name[validation]"), {
    name: "UserError",
    message: /^org\/name: has no split "validation" \(found "train", "test"\)/,
  });
  await assert.rejects(resolve("org/name@v9"), { name: "UserError", message: /org\/name has no revision v9/ });
});

test("a path that leads out of the cache is refused", async (t) => {
  const { hub, resolve } = await makePlace(t, { "../train.jsonl": line("a") });
  await assert.rejects(resolve("org/name"), { name: "UserError", message: /no path in the set/ });
  assert.ok(!hub.seen.some((line) => line.includes("/resolve/")) && existsSync(tmpdir()));
});
