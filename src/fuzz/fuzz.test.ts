// What the fuzzer runs for long, in short: properties over every reader, what was found before, and paths that lead to
// something else than a file. A reader takes its input, or refuses it with a UserError.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import fc from "fast-check";

import { openFolder, readConfig } from "../checkpoint/folder.js";
import { readProgress } from "../checkpoint/run/state.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { openSource } from "../checkpoint/source.js";
import { parseSources } from "../data/sources/parse.js";
import { readAllRows } from "../data/sources/open-sources.js";
import { UserError } from "../errors.js";
import { readGeometry } from "../plan/geometry.js";
import { rollBack } from "../store/disk/undo-log.js";
import { resolveSettings } from "../train/settings/settings.js";
import { inputOf } from "./inputs.js";
import { describeFailure } from "./finding.js";
import { repositoryFile } from "./reader.js";
import { READERS } from "./registry.js";

const CORPUS = repositoryFile("test/corpus");
/** The same ones each time; `npm run fuzz -- --seed N` takes others. */
const RUNS = { numRuns: 12, seed: 20 };

async function withFolder(body: (folder: string) => unknown): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-fuzz-test-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** True when `read` takes or refuses; anything else fails the test with what was thrown. */
async function ends(read: () => unknown): Promise<boolean> {
  try {
    await read();
  } catch (failure) {
    assert.ok(failure instanceof UserError, describeFailure(failure));
    assert.ok(failure.message.length > 10);
  }
  return true;
}

for (const reader of READERS) {
  const seeds = reader.seeds();

  test(`${reader.name}: right inputs are taken, or refused in words`, () =>
    withFolder(async (folder) => {
      const read = reader.open(folder);
      for (const seed of seeds) await ends(() => read(seed));
    }));

  test(`${reader.name}: takes or refuses what is mutated, any JSON and any bytes`, () =>
    withFolder(async (folder) => {
      const read = reader.open(folder);
      const property = fc.asyncProperty(fc.nat(), (number) =>
        ends(() => read(inputOf(reader, seeds, 1, seeds.length + number))),
      );
      await fc.assert(property, RUNS);
      const texts = fc.oneof(fc.json(), fc.string({ unit: "binary" })).map((text) => Buffer.from(text));
      const bytes = fc.oneof(texts, fc.uint8Array({ maxLength: 600 }));
      await fc.assert(
        fc.asyncProperty(bytes, (input) => ends(() => read(input))),
        RUNS,
      );
    }));
}

for (const name of existsSync(CORPUS) ? readdirSync(CORPUS) : []) {
  test(`what was found before in ${name} is refused or taken`, () =>
    withFolder(async (folder) => {
      const reader = READERS.find((each) => each.name.replaceAll(/[^\w.]+/g, "-") === name);
      assert.ok(reader, `${name} is no reader's`);
      const read = reader.open(folder);
      for (const file of readdirSync(join(CORPUS, name)))
        await ends(() => read(readFileSync(join(CORPUS, name, file))));
    }));
}

const BY_PATH: Record<string, (path: string) => unknown> = {
  "model folder": (path) => openSource(path),
  "config.json": (path) => readConfig(path),
  weights: (path) => openFolder(path),
  "a .gguf": (path) => openSource(`${path}.gguf`),
  safetensors: (path) => openSafetensors(path),
  "config.json by itself": (path) =>
    readGeometry({ model: `${path}.json`, weights_dtype: "auto", add_tokens: [], add_special_tokens: [] }),
  ...Object.fromEntries(
    [".jsonl", ".json", ".txt", ".csv", ".parquet", ".arrow"].map((ending) => [
      `rows ${ending}`,
      (path: string) => readAllRows(parseSources([{ file: `${path}${ending}` }])),
    ]),
  ),
  "settings file": (path) => resolveSettings({ file: path }),
  "trainer_state.json": (path) => readProgress(path),
};
const ENDINGS = ["", ".gguf", ".json", ".jsonl", ".txt", ".csv", ".parquet", ".arrow"];

const PLACES: Record<string, (folder: string) => string> = {
  nothing: (folder) => join(folder, "none"),
  "a folder": (folder) => {
    for (const ending of ENDINGS) mkdirSync(join(folder, `d${ending}`));
    return join(folder, "d");
  },
  "a pipe": (folder) => {
    for (const ending of ENDINGS) execFileSync("mkfifo", [join(folder, `p${ending}`)]);
    return join(folder, "p");
  },
  "a path through a file": (folder) => {
    writeFileSync(join(folder, "f"), "{}");
    return join(folder, "f/x");
  },
  "a device": () => "/dev/zero",
  "a path that is too long": (folder) => join(folder, "x".repeat(5000)),
  "a path with a null character": (folder) => join(folder, "a\0b"),
};

for (const [place, make] of Object.entries(PLACES)) {
  test(`${place} in place of a file is refused in words by every reader of a path`, () =>
    withFolder(async (folder) => {
      const path = make(folder);
      for (const [name, read] of Object.entries(BY_PATH))
        await assert.rejects(async () => read(path), { name: "UserError" }, name);
    }));
}

test("a pipe as an undo log is refused", () =>
  withFolder((folder) => {
    execFileSync("mkfifo", [join(folder, "undo.log")]);
    assert.throws(() => rollBack(folder, 1), { name: "UserError", message: /is a pipe/ });
  }));
