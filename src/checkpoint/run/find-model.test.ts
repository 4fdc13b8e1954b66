// Which folder of a run is its model, by what the run has come to.
import assert from "node:assert/strict";
import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { findModel } from "./find-model.js";
import { withFolder } from "../testing-model.js";

function put(dir: string, files: string[], seconds: number): void {
  mkdirSync(dir, { recursive: true });
  for (const name of files) {
    writeFileSync(join(dir, name), "");
    utimesSync(join(dir, name), seconds, seconds);
  }
}

const CHECKPOINT = ["config.json", "model.safetensors", "trainer_state.json", "optimizer.safetensors"];

test("a model is itself; of a run, final/ counts, else the newest complete checkpoint", () =>
  withFolder((folder) => {
    const run = join(folder, "run");
    put(run, ["config.json", "metrics.jsonl"], 1);
    assert.throws(() => findModel(run), /run: this run has no final\/ and no complete checkpoint-N yet\. Let it train/);
    put(join(run, "checkpoint-9"), CHECKPOINT, 2);
    put(join(run, "checkpoint-10"), CHECKPOINT, 3);
    put(join(run, "checkpoint-11"), CHECKPOINT.slice(0, 3), 4);
    assert.deepEqual(findModel(run), { folder: join(run, "checkpoint-10"), run });
    put(join(run, "final"), ["config.json", "model.safetensors.index.json"], 5);
    assert.deepEqual(findModel(run), { folder: join(run, "final"), run, newer: undefined });
    put(join(run, "checkpoint-20"), CHECKPOINT, 6);
    assert.deepEqual(findModel(run), { folder: join(run, "final"), run, newer: join(run, "checkpoint-20") });
    assert.deepEqual(findModel(join(run, "checkpoint-9")), { folder: join(run, "checkpoint-9") });
    assert.deepEqual(findModel(join(folder, "none")), { folder: join(folder, "none") });
  }));
