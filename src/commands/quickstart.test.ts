// What quickstart does not do: the run itself is tried by `npm run quickstart`.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { writeMarker } from "../checkpoint/run/marker.js";
import { runCli } from "../cli/program.js";
import { COMMANDS } from "./registry.js";

async function quickstart(...words: string[]): Promise<{ code: number; err: string }> {
  let err = "";
  const program = { version: () => "0", commands: COMMANDS };
  const code = await runCli(program, ["quickstart", ...words], { write: () => {} }, { write: (text) => (err += text) });
  return { code, err };
}

test("a run that is no quickstart's is not replaced: one with a checkpoint, with nothing yet, from before there was run.json", async () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-quickstart-"));
  try {
    const checkpoint = join(folder, "a", "checkpoint-2");
    mkdirSync(checkpoint, { recursive: true });
    mkdirSync(join(folder, "b"));
    for (const name of ["a", "b"]) writeMarker(join(folder, name), { replacing: false });
    mkdirSync(join(folder, "c"));
    writeFileSync(join(folder, "c", "metrics.jsonl"), "");
    writeFileSync(join(folder, "c", "config.json"), JSON.stringify({ train_file: "rows.jsonl", output_dir: "c" }));
    const before = readdirSync(folder, { recursive: true });
    for (const name of ["a", "b", "c"]) {
      const { code, err } = await quickstart("--output-dir", join(folder, name));
      assert.equal(code, 2);
      assert.match(
        err,
        /output_dir: .* already holds a run, which quickstart does not replace\. Choose another folder with --output-dir\.$/m,
      );
    }
    assert.deepEqual(readdirSync(folder, { recursive: true }), before);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
