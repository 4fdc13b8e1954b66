// A run whose calls of the system are refused, one kind after another, in this process: each ends as a sentence that names the file,
// holds nothing, and can be begun again. Every call of a run is refused by experiments/trust/cuts.mjs.
import assert from "node:assert/strict";
import fs, { existsSync, mkdirSync, readdirSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { runCli } from "../cli/program.js";
import { writeMarker } from "../checkpoint/run/marker.js";
import { makeWorkplace, settingsFor, type Workplace } from "../train/testing-run.js";
import { command } from "./train.js";

async function train(place: Workplace): Promise<{ code: number; said: string }> {
  let said = "";
  const output = { write: (text: string) => (said += text) };
  const settings = settingsFor(place, {
    parameters: "disk",
    durability: "step",
    max_steps: 2,
    overwrite_output_dir: false,
  });
  const given = [
    "model",
    "train_file",
    "output_dir",
    "threads",
    "max_length",
    "max_steps",
    "parameters",
    "durability",
  ] as const;
  const words = given.map((name) => `--${name.replaceAll("_", "-")}=${settings[name]}`);
  const code = await runCli(
    { version: () => "", commands: { train: { about: "", load: async () => command as never } } },
    ["train", ...words],
    output,
    output,
  );
  return { code, said };
}

/** Refuses fsync of files whose path matches, as a full disk does: the system's error names no file. */
function refuseSync(t: TestContext, wanted: RegExp): () => void {
  const { openSync, fsyncSync } = fs;
  const paths = new Map<number, string>();
  const opening = t.mock.method(fs, "openSync", (path: string, ...more: [string]) => {
    const file = openSync(path, ...more);
    paths.set(file, path);
    return file;
  });
  const syncing = t.mock.method(fs, "fsyncSync", (file: number) => {
    if (!wanted.test(paths.get(file) ?? "")) return fsyncSync(file);
    throw Object.assign(new Error("ENOSPC: no space left on device, fsync"), {
      code: "ENOSPC",
      errno: -28,
      syscall: "fsync",
    });
  });
  syncBuiltinESMExports();
  return () => {
    for (const mocked of [opening, syncing]) mocked.mock.restore();
    syncBuiltinESMExports();
  };
}

const CALLS: [string, RegExp][] = [
  ["the draft of the lock", /run\.lock\./],
  ["the marker", /run\.json/],
  ["the folder of the run", /\/run$/],
  ["a file of the working copy", /working\/block-001/],
  ["the progress of the working copy", /working\/trainer_state/],
  ["the settings", /config\.json\.new$/],
];
for (const [what, path] of CALLS) {
  test(`no room for ${what}: a sentence, nothing is held, and the next start is as the first`, async (t) => {
    const place = makeWorkplace(t);
    const allow = refuseSync(t, path);
    const refused = await train(place);
    allow();
    assert.equal(refused.code, 2, refused.said);
    assert.match(refused.said, /revmoe: .*\/run.*the disk is full/);
    const left = existsSync(place.out()) ? readdirSync(place.out()) : [];
    assert.deepEqual(
      left.filter((name) => /^run\.lock|^working|\.partial$/.test(name)),
      [],
    );
    const { code, said } = await train(place);
    assert.equal(code, 0, said);
  });
}

test("settings that cannot be written leave no working copy and no lock", async (t) => {
  const place = makeWorkplace(t);
  mkdirSync(place.out());
  writeMarker(place.out(), { replacing: false });
  mkdirSync(join(place.out(), "config.json.new"));
  const { code, said } = await train(place);
  assert.equal(code, 2, said);
  assert.match(said, /config\.json\.new: cannot be written: it is a folder/);
  assert.deepEqual(readdirSync(place.out()).sort(), ["config.json.new", "run.json"]);
});
