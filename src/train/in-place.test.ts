// A run in its working copy, killed between a step that lasts and what follows that step: the evaluation, the checkpoint, the
// result. When it goes on, all of that is made, as if nothing had happened.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import type { RunEvent } from "../metrics/record.js";
import { train } from "./loop.js";
import { freeRun, prepareRun } from "./prepare.js";
import type { TrainSettings } from "./settings/settings.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf } from "./testing-run.js";

/** Ends a run, as a kill would, where it says this; then goes on. Returns that and a run in memory that nothing happened to. */
async function cutAt(
  t: TestContext,
  changes: Partial<TrainSettings>,
  isThere: (event: RunEvent) => boolean,
): Promise<[Ran, Ran]> {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 6, parameters: "disk", durability: "step", ...changes });
  const whole = await runTraining({ ...settings, parameters: "device", output_dir: place.out("whole") });
  const run = await prepareRun(settings);
  const write = (event: RunEvent): void => {
    if (isThere(event)) throw new Error("cut");
  };
  await assert.rejects(train(run, { write, close: () => {} }), /cut/);
  freeRun(run);
  const resumed = await runTraining({ ...settings, resume: "latest" });
  assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
  return [resumed, whole];
}

const evaluated = { validation_rows: 2, eval_steps: 2, save_steps: 2 };

for (const step of [2, 4]) {
  test(`killed before the evaluation after step ${step}: it is made, and so is the checkpoint`, async (t) => {
    const [resumed, whole] = await cutAt(t, evaluated, (event) => event.kind === "eval" && event.step === step);
    assert.deepEqual(
      resumed.evals.map(({ step, evalLoss }) => [step, evalLoss]),
      whole.evals.filter((each) => each.step >= step).map(({ step, evalLoss }) => [step, evalLoss]),
    );
    assert.ok(existsSync(join(resumed.outcome.folder, `../checkpoint-${step}`)));
  });
}

for (const gamma_final of ["-1/64", "-1/128", "-1/256"]) {
  test(`killed before the result was saved: it is the network of the last step, gamma ${gamma_final}`, async (t) => {
    const changes = {
      gamma: -1 / 16,
      gamma_final: -1 / Number(gamma_final.slice(3)),
      gamma_final_ratio: 0.5,
      validation_rows: 2,
    };
    const [resumed, whole] = await cutAt(t, changes, (event) => event.kind === "eval" && event.step === 6);
    const network = ({ outcome }: Ran): unknown =>
      JSON.parse(readFileSync(join(outcome.folder, "revmoe.json"), "utf8"));
    assert.deepEqual(network(resumed), network(whole));
    assert.deepEqual(
      resumed.evals.map(({ evalLoss }) => evalLoss),
      whole.evals.slice(-2).map(({ evalLoss }) => evalLoss),
    );
  });
}
