// The examples of examples/library/ run, on the tiny model of the golden files, and show what they promise.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
let model = "";

before(() => {
  model = mkdtempSync(join(tmpdir(), "revmoe-library-"));
  for (const file of [
    "hf-tiny/config.json",
    "hf-tiny/model.safetensors",
    "letters/tokenizer.json",
    "letters/tokenizer_config.json",
  ])
    cpSync(join(ROOT, "test/golden", file), join(model, file.split("/")[1]));
});
after(() => rmSync(model, { recursive: true }));

/** What an example prints when it takes `steps` steps. */
function printed(example: string, steps: number): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "examples/library", example), model, String(steps)],
    { encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
  return stdout;
}

function assertLearns(out: string, steps: number): void {
  const losses = [...out.matchAll(/^step \d+: loss ([\d.]+)/gm)].map(([, loss]) => Number(loss));
  assert.equal(losses.length, steps, out);
  assert.ok(losses[steps - 1] < losses[0], out);
}

test("step.mjs: a training step by hand, which rebuilds exactly and leaves no tensor", () => {
  const out = printed("step.mjs", 4);
  assertLearns(out, 4);
  assert.equal(out.match(/rebuilt streams off by 0$/gm)?.length, 4, out);
  assert.match(out, /^tensors alive at the end: 0$/m);
});

test("optimizer.mjs: an optimizer of one's own", () => {
  const out = printed("optimizer.mjs", 4);
  assertLearns(out, 4);
  assert.match(out, /optimizer state 0 bytes/);
});

test("coupling.mjs: a coupling of one's own, whose rebuilt gradient has the bits of the stored one", () => {
  const out = printed("coupling.mjs", 4);
  assertLearns(out, 4);
  const [, stored, rebuilt] = out.match(/^gradient norm, stored ([\d.e-]+), rebuilt ([\d.e-]+)$/m) ?? [];
  assert.ok(Number(stored) > 0, out);
  assert.equal(rebuilt, stored);
  assert.match(out, /^rebuilt streams off by 0$/m);
});

test("train.mjs: a plan, a run on rows of the program, and its result asked", () => {
  const out = printed("train.mjs", 6);
  assert.match(out, /^a step takes \d+ MiB$/m);
  assertLearns(out, 6);
  assert.match(out, /^finished\nThe sum of.+/m);
});
