// A step ends with its epoch, so that epochs, and not steps of whole size, are what a person asked for; and the order of rows.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";

/** Seven micro-batches of one row an epoch, see testing-run.ts. */
const epochsOf = (place: Workplace, changes: Partial<TrainSettings>): TrainSettings =>
  settingsFor(place, { max_steps: 0, num_train_epochs: 3, ...changes });

test("three rows, three epochs and an accumulation of 16 are three steps of all rows", async (t) => {
  const place = makeWorkplace(t);
  writeFileSync(place.rows, ["One.", "And two.", "Three it is."].map((text) => JSON.stringify({ text })).join("\n"));
  const { steps } = await runTraining(epochsOf(place, { gradient_accumulation_steps: 16, packing: false }));
  assert.deepEqual(
    steps.map(({ step, epoch, trainedTokens }) => [step, epoch, trainedTokens]),
    [1, 2, 3].map((step) => [step, step, steps[0].trainedTokens]),
  );
});

for (const [accumulation, epochs, ends] of [
  [2, 2, [2 / 7, 4 / 7, 6 / 7, 1, 9 / 7, 11 / 7, 13 / 7, 2]],
  [3, 1.5, [3 / 7, 6 / 7, 1, 10 / 7, 13 / 7]],
  [7, 2, [1, 2]],
  [1, 0.5, [1 / 7, 2 / 7, 3 / 7, 4 / 7]],
] as const) {
  test(`${epochs} epochs of seven micro-batches, ${accumulation} to a step`, async (t) => {
    const settings = epochsOf(makeWorkplace(t), {
      gradient_accumulation_steps: accumulation,
      num_train_epochs: epochs,
    });
    const { steps } = await runTraining(settings);
    assert.deepEqual(
      steps.map(({ epoch }) => epoch.toFixed(9)),
      ends.map((epoch) => epoch.toFixed(9)),
    );
    const whole = steps.filter(({ epoch }) => epoch <= 1 + 1e-9);
    const tokens = whole.reduce((sum, { trainedTokens }) => sum + trainedTokens, 0);
    if (epochs >= 1)
      assert.equal(
        tokens,
        (await runTraining(epochsOf(makeWorkplace(t), { gradient_accumulation_steps: 16, num_train_epochs: 1 })))
          .steps[0].trainedTokens,
      );
  });
}

test("the loss of a step that ends an epoch is the mean of its own tokens", async (t) => {
  const place = makeWorkplace(t);
  const still = { learning_rate: 1e-30, lr_scheduler_type: "constant", num_train_epochs: 1 } as const;
  const [some, all] = [
    await runTraining(epochsOf(place, { ...still, gradient_accumulation_steps: 2 })),
    await runTraining(epochsOf(place, { ...still, gradient_accumulation_steps: 16, output_dir: place.out("all") })),
  ];
  assert.equal(some.steps.length, 4);
  const total = some.steps.reduce((sum, { loss, trainedTokens }) => sum + loss * trainedTokens, 0);
  assert.ok(Math.abs(total / all.steps[0].trainedTokens - all.losses[0]) < 1e-5);
});

test("stopped inside an epoch, at its end and behind it, a run goes on with the same bits", async (t) => {
  const place = makeWorkplace(t);
  const settings = epochsOf(place, { gradient_accumulation_steps: 2, num_train_epochs: 2 });
  const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
  for (const stopAt of [3, 4, 5]) {
    const parts = [
      await runTraining(settings, { stopAt }),
      await runTraining({ ...settings, overwrite_output_dir: false, resume: "latest" }),
    ];
    assert.deepEqual(
      parts.flatMap(({ losses }) => losses),
      whole.losses,
    );
    assert.deepEqual(weightsOf(join(settings.output_dir, "final")), weightsOf(whole.outcome.folder));
  }
});
