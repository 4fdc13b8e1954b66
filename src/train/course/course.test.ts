// When a run evaluates, saves and ends: by steps and epochs, the best network as the result, an early end, and going on after the end.
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { listCheckpoints } from "../../checkpoint/run/checkpoints.js";
import { BestModel } from "./best-model.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";

/** Six micro-batches an epoch, two to a step: three steps an epoch. */
const HELD = { validation_rows: 2, gradient_accumulation_steps: 2, max_steps: 0, num_train_epochs: 3 } as const;
const trainedEvals = ({ evals }: Ran): number[] =>
  evals.flatMap(({ network, step }) => (network === "trained" ? [step] : []));
const messages = ({ events }: Ran): string =>
  events.flatMap((event) => (event.kind === "message" ? [event.message] : [])).join("\n");
const onGoing = (settings: TrainSettings): TrainSettings => ({
  ...settings,
  overwrite_output_dir: false,
  resume: "latest",
});

test("by steps, behind epochs, or not at all: what is evaluated and saved", async (t) => {
  const place = makeWorkplace(t);
  for (const [changes, evals, saves] of [
    [{ eval_steps: 2, save_steps: 4 }, [0, 2, 4, 6, 8, 9], [4, 8, 9]],
    [{ eval_strategy: "epoch", save_strategy: "epoch" }, [0, 3, 6, 9], [3, 6, 9]],
    [{ eval_strategy: "no", save_strategy: "no" }, [0, 9], []],
    [{ eval_strategy: "epoch", save_steps: 5, save_total_limit: 1 }, [0, 3, 6, 9], [9]],
  ] as const) {
    const settings = settingsFor(place, { ...HELD, ...changes });
    const ran = await runTraining(settings);
    assert.deepEqual(
      [trainedEvals(ran), listCheckpoints(settings.output_dir)],
      [evals, saves],
      JSON.stringify(changes),
    );
  }
});

test("behind each epoch, in a run that is stopped and goes on: the same evaluations, checkpoints and bits", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...HELD, eval_strategy: "epoch", save_strategy: "epoch" });
  const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
  const parts = [await runTraining(settings, { stopAt: 4 }), await runTraining(onGoing(settings))];
  assert.deepEqual(
    parts.flatMap(({ losses }) => losses),
    whole.losses,
  );
  assert.deepEqual(parts.flatMap(trainedEvals), trainedEvals(whole));
  assert.deepEqual(weightsOf(join(settings.output_dir, "final")), weightsOf(whole.outcome.folder));
});

/** At this rate the loss falls, and then rises far above. */
const RISING = { ...HELD, learning_rate: 0.02, lr_scheduler_type: "constant", eval_steps: 1 } as const;

for (const changes of [
  { save_steps: 3, save_total_limit: 2 },
  { save_total_limit: 1, metric_for_best_model: "eval_mean_token_accuracy" },
  { parameters: "disk", durability: "step", gamma_final: -1 / 128, gamma: -1 / 16 },
] as const) {
  test(`the result is the best network: ${JSON.stringify(changes)}`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { ...RISING, ...changes, load_best_model_at_end: true });
    const ran = await runTraining(settings);
    const trained = ran.evals.filter(({ network, step }) => network === "trained" && step > 0);
    const accuracy = "metric_for_best_model" in changes;
    const best = trained.reduce((most, each) =>
      (accuracy ? each.evalMeanTokenAccuracy > most.evalMeanTokenAccuracy : each.evalLoss < most.evalLoss)
        ? each
        : most,
    );
    const kept = join(settings.output_dir, `checkpoint-${best.step}`);
    assert.deepEqual(weightsOf(ran.outcome.folder), weightsOf(kept));
    assert.match(
      messages(ran),
      best.step === 9
        ? /the last network is the best/
        : new RegExp(`the result is the best network: \\S+ \\S+ at step ${best.step}, of `),
    );
    if (settings.save_total_limit > 0) assert.ok(listCheckpoints(settings.output_dir).length <= 2);
    // Stopped and gone on, it chooses the same.
    const again = { ...settings, output_dir: place.out("again") };
    await runTraining(again, { stopAt: 5 });
    const resumed = await runTraining(onGoing(again));
    assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(ran.outcome.folder));
  });
}

test("a run ends early where evaluations are no better for long, also when it was stopped in between", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...RISING, early_stopping_patience: 2, early_stopping_threshold: 0.5 });
  const whole = await runTraining(settings);
  const { steps } = whole.outcome;
  assert.ok(steps < 9, `${steps} steps; ${whole.evals.map(({ evalLoss }) => evalLoss)}`);
  assert.match(
    messages(whole),
    /early_stopping_patience: 2 evaluations, one after the other, were not better by 0\.5 than the best before, so the run ends here; the best is eval_loss \S+ at step \d/,
  );
  assert.ok(existsSync(join(whole.outcome.folder, "config.json")) && !whole.outcome.stopped);
  for (const stopAt of [1, steps - 1]) {
    const again = { ...settings, output_dir: place.out(`again-${stopAt}`) };
    await runTraining(again, { stopAt });
    const resumed = await runTraining(onGoing(again));
    assert.deepEqual(
      [resumed.outcome.steps, weightsOf(resumed.outcome.folder)],
      [steps, weightsOf(whole.outcome.folder)],
    );
  }
});

test("which evaluation is the best, and when it is enough", () => {
  const wishes = {
    load_best_model_at_end: true,
    metric_for_best_model: "eval_loss",
    early_stopping_patience: 2,
    early_stopping_threshold: 0.1,
  } as const;
  const course = (losses: number[], model: BestModel): (number | undefined)[] =>
    losses.map((loss, i) => {
      const measured = { loss, accuracy: -loss };
      if (model.count(measured)) model.keep(i + 1, measured);
      return model.isExhausted ? -1 : model.neededStep;
    });
  assert.deepEqual(course([3, 2, 2.5, Number.NaN], new BestModel(wishes)), [1, 2, 2, -1]);
  // Better, but not by the threshold: the best, and yet one without.
  assert.deepEqual(course([3, 2.95, 2.94], new BestModel(wishes)), [1, 2, -1]);
  assert.deepEqual(course([Number.NaN, 3, 2], new BestModel(wishes)), [undefined, 2, 3]);
  const other = new BestModel({ ...wishes, metric_for_best_model: "eval_mean_token_accuracy" });
  assert.deepEqual(course([3, 2, 2.5], other), [1, 2, 2]);
  const saved = JSON.parse(JSON.stringify(other.best)) as unknown;
  assert.deepEqual(new BestModel(wishes, saved).best, other.best);
  for (const odd of [null, 5, {}, { step: 1.5, value: 1, without: 0 }])
    assert.equal(new BestModel(wishes, odd).best, null);
});

test("a run that has ended goes on with more epochs or steps, and says what the schedule does", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...HELD, num_train_epochs: 1, save_strategy: "epoch" });
  await runTraining(settings);
  assert.deepEqual(listCheckpoints(settings.output_dir), [3]);
  const looks: string[] = [];
  const more = await runTraining(
    { ...onGoing(settings), num_train_epochs: 2 },
    { look: ({ notes }) => void looks.push(...notes) },
  );
  assert.deepEqual(
    more.steps.map(({ step }) => step),
    [4, 5, 6],
  );
  assert.match(
    looks.join("\n"),
    /was to have 3 steps and now has 6: cosine goes on over all 6 .*from \S+ in step 3 to \S+ in step 4/,
  );
  const steps = await runTraining(
    { ...onGoing(settings), max_steps: 8, lr_scheduler_type: "constant" },
    { look: ({ notes }) => void looks.push(...notes) },
  );
  assert.deepEqual(
    steps.steps.map(({ step }) => step),
    [7, 8],
  );
  assert.match(looks.join("\n"), /was to have 6 steps and now has 8/);
  // As many as there are: nothing is left to do, which is said, and the result is there again.
  rmSync(join(settings.output_dir, "final"), { recursive: true });
  const none = await runTraining(
    { ...onGoing(settings), max_steps: 8 },
    { look: ({ notes }) => void looks.push(...notes) },
  );
  assert.deepEqual([none.steps.length, readdirSync(none.outcome.folder).includes("model.safetensors")], [0, true]);
  assert.match(looks.join("\n"), /all 8 steps are done already: ask for more with max_steps or num_train_epochs/);
});

test("a run that has ended without checkpoints says how its result is trained further", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 2 });
  const { outcome } = await runTraining(settings);
  await assert.rejects(runTraining({ ...onGoing(settings), max_steps: 4 }), {
    name: "UserError",
    message: new RegExp(`has ended, and left no checkpoint to go on from .*model: ${outcome.folder} .*save_steps`),
  });
  const further = { ...settings, model: outcome.folder, output_dir: place.out("further") };
  assert.equal((await runTraining(further)).outcome.steps, 2);
});

test("a line of metrics has the mean of the steps since the last one", async (t) => {
  const place = makeWorkplace(t);
  const each = await runTraining(settingsFor(place, { max_steps: 7 }));
  const some = await runTraining(settingsFor(place, { max_steps: 7, logging_steps: 3 }));
  const mean = (from: number, to: number, of: "loss" | "meanTokenAccuracy"): number =>
    each.steps.slice(from, to).reduce((sum, step) => sum + (step[of] as number), 0) / (to - from);
  assert.deepEqual(
    some.steps.map(({ step }) => step),
    [3, 6, 7],
  );
  for (const [i, [from, to]] of (
    [
      [0, 3],
      [3, 6],
      [6, 7],
    ] as const
  ).entries()) {
    for (const of of ["loss", "meanTokenAccuracy"] as const)
      assert.ok(Math.abs((some.steps[i][of] as number) - mean(from, to, of)) < 1e-9, `${of} of line ${i}`);
  }
});
