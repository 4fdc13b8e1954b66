// A disk run killed with SIGKILL in the middle of its work goes on from a whole step each time and ends in the same bits as one
// that nothing happened to. Twenty moments for each durability: experiments/frontier/kill.mjs.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { rollBack, UndoLog } from "../store/disk/undo-log.js";
import { SharedMapping } from "../torch/mapping.js";
import { fill_ } from "../torch/ops.js";
import { crashingRun, type Life } from "./testing-crash.js";
import type { TrainSettings } from "./settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "./testing-run.js";

const CASES: [string, number[], Partial<TrainSettings>][] = [
  ["step", [60, 25, 140], { optimizer: "adamw8bit", weights_dtype: "bfloat16" }],
  ["snapshot", [130, 60, 180], { optimizer: "adafactor", weights_dtype: "bfloat16", save_steps: 2 }],
];
for (const [durability, delays, changes] of CASES) {
  test(`durability ${durability}: a run killed ${delays.length} times ends as one that was not`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, {
      max_steps: 8,
      gradient_accumulation_steps: 2,
      save_total_limit: 0,
      ...changes,
    });
    const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
    const lives = await crashingRun({ ...settings, parameters: "disk", durability: durability as "step" }, delays);
    assert.ok(
      lives.some(({ killed }) => killed),
      "no process was killed",
    );
    checkLives(lives, whole.losses, durability === "step");
    assert.deepEqual(weightsOf(join(settings.output_dir, "final")), weightsOf(whole.outcome.folder));
  });
}

/** Every step's loss is that of the whole run, and with `durable` no step that was reported is done twice. */
function checkLives(lives: Life[], losses: number[], durable: boolean): void {
  let done = 0;
  for (const { startStep, losses: own } of lives) {
    if (startStep === null) continue;
    assert.ok(startStep <= done + 1 && (!durable || startStep >= done), `went on from ${startStep} after ${done}`);
    for (const [step, loss] of own) assert.equal(loss, losses[step - 1], `step ${step}`);
    done = Math.max(startStep, ...own.keys());
  }
  assert.equal(done, losses.length);
}

test("the undo log brings back what was changed behind whole records, and nothing of another step", (t) => {
  const { folder } = makeWorkplace(t);
  const [one, two] = ["one", "two"].map((name) => {
    writeFileSync(join(folder, name), Buffer.alloc(9000, name));
    return new SharedMapping(join(folder, name));
  });
  const bytes = (): string[] => ["one", "two"].map((name) => readFileSync(join(folder, name), "latin1").slice(0, 4));
  const log = new UndoLog(folder);
  log.append(5, [one]);
  fill_(one.tensor, 120);
  log.append(5, [two]);
  fill_(two.tensor, 121);
  log.close();
  assert.deepEqual(bytes(), ["xxxx", "yyyy"]);
  const whole = readFileSync(join(folder, "undo.log"));
  // A record without its mark: the file was not touched yet.
  writeFileSync(join(folder, "undo.log"), whole.subarray(0, -1));
  assert.deepEqual(rollBack(folder, 4), ["one"]);
  assert.deepEqual(bytes(), ["oneo", "yyyy"]);
  writeFileSync(join(folder, "undo.log"), whole);
  assert.deepEqual(rollBack(folder, 5), []);
  assert.deepEqual(bytes(), ["oneo", "yyyy"]);
  writeFileSync(join(folder, "undo.log"), whole);
  assert.deepEqual(rollBack(folder, 4), ["one", "two"]);
  assert.deepEqual(bytes(), ["oneo", "twot"]);
  assert.deepEqual(rollBack(folder, 4), []);
  one.close();
  two.close();
});
