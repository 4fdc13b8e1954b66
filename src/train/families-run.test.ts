// A model of every family, trained, stopped and resumed: the same losses and weights as in one go, bit for bit.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { readConfig } from "../checkpoint/folder.js";
import { FAMILIES } from "../families/registry.js";
import { setThreads } from "../torch/device.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "./testing-run.js";

setThreads(1);

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const typeOf = (name: string): unknown => readConfig(join(GOLDEN, name)).config.model_type;
const MODELS = readdirSync(GOLDEN)
  .filter((name) => existsSync(join(GOLDEN, name, "golden.safetensors")))
  .sort();

for (const { modelType } of FAMILIES) {
  test(`${modelType}: a run that is stopped and resumed is the run in one go`, async (t) => {
    const golden = MODELS.find((name) => typeOf(name) === modelType);
    assert.ok(golden, modelType);
    const place = makeWorkplace(t, golden);
    const settings = settingsFor(place, { max_steps: 3, router_aux_loss_coef: 0.01 });
    const whole = await runTraining(settings);
    assert.notEqual(whole.losses[2], whole.losses[0]);
    const again = { ...settings, output_dir: place.out("again") };
    const stopped = await runTraining(again, { stopAt: 2 });
    const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
    assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
    assert.ok(weightsOf(resumed.outcome.folder).equals(weightsOf(whole.outcome.folder)));
  });
}
