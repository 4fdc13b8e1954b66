// Every optimizer on the tiny model, speeches -> Moby-Dick: node experiments/optimizers.mjs [steps] [rates]. Each
// starts from the same bfloat16 weights and gets the same rows, 2048 tokens a step. `rates` learning rates are tried,
// with a factor of three between them, around the one in the table (default 1); the best held-out loss is shown. Then
// step times: optimizers alternate within a round, so that a noisy machine disturbs all alike; medians, relative to
// adamw.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import {
  engineInfo,
  evaluateLoss,
  freeRun,
  learningRateAt,
  phaseAt,
  prepareRun,
  resolveSettings,
  stepOptions,
  trainStep,
} from "revmoe";
import { makeData } from "../examples/make-data.mjs";

const [steps, rates] = [Number(process.argv[2] ?? 60), Number(process.argv[3] ?? 1)];
const ROUNDS = 7;
const CASES = {
  adamw: { optimizer: "adamw", learning_rate: 1e-3 },
  "adamw, 24-bit masters": { optimizer: "adamw", learning_rate: 1e-3, weights_correction: "8bit" },
  "adamw, float32 weights": { optimizer: "adamw", learning_rate: 1e-3, weights_dtype: "float32" },
  adamw8bit: { optimizer: "adamw8bit", learning_rate: 1e-3 },
  adafactor: { optimizer: "adafactor", learning_rate: 3e-3 },
  adalomo: { optimizer: "adalomo", learning_rate: 3e-2 },
  lomo: { optimizer: "lomo", learning_rate: 0.9 },
  sgd: { optimizer: "sgd", learning_rate: 0.09 },
  galore_adamw: { optimizer: "galore_adamw", learning_rate: 3e-3, galore_rank: 64 },
  muon: { optimizer: "muon", learning_rate: 3e-3 },
};

const folder = mkdtempSync(join(tmpdir(), "revmoe-optimizers-"));
const data = makeData("moby-dick", folder);
// Each run has its own folder, in which nothing is saved.
let opened = 0;
const open = (changes) =>
  prepareRun(
    resolveSettings({
      flags: {
        model: fileURLToPath(new URL("../examples/tiny-moe", import.meta.url)),
        train_file: data.train,
        validation_file: data.valid,
        output_dir: join(folder, `run-${opened++}`),
        max_steps: steps,
        max_length: 256,
        per_device_train_batch_size: 8,
        per_device_eval_batch_size: 8,
        weights_dtype: "bfloat16",
        ...changes,
      },
    }).settings,
  );

const take = (run, step, learningRate) => {
  const options = { ...stepOptions(run.settings, phaseAt(run.phases, step), step), learningRate };
  const batches = [run.data.next()];
  const started = performance.now();
  const { loss } = trainStep(run.state.network, run.states, batches, options);
  return { loss, ms: performance.now() - started };
};
const heldOut = (run) => evaluateLoss(run.state.network, run.evalBatches.slice(0, 8));

/** Losses of the course and at its end; a rate that diverges is out. */
async function course(changes) {
  const run = await open(changes);
  const { learning_rate: peak, min_lr_ratio: minRatio } = run.settings;
  const losses = [];
  try {
    for (let step = 1; step <= steps; step++) {
      losses.push(
        take(run, step, learningRateAt(step, { type: "cosine", peak, warmupSteps: 2, totalSteps: steps, minRatio }))
          .loss,
      );
    }
    return { losses, held: heldOut(run), bytes: run.states.bytes, rate: peak };
  } catch (failure) {
    return { losses, held: Number.POSITIVE_INFINITY, bytes: run.states.bytes, rate: peak, failure: failure.message };
  } finally {
    freeRun(run);
  }
}

const tried = (rate) =>
  Array.from({ length: rates }, (_, i) => Number((rate * 3 ** (i - (rates >> 1))).toPrecision(2)));
console.log(`libtorch ${engineInfo().version}, ${steps} steps of 2048 tokens, bfloat16 weights unless said otherwise`);
const shown = [1, ...[1, 2, 3, 4].map((part) => Math.round((steps * part) / 4))];
console.log(`| optimizer | learning rate | ${shown.map((step) => `step ${step}`).join(" | ")} | held out | state |`);
console.log(`| --- | ---: |${shown.map(() => " ---: |").join("")} ---: | ---: |`);
for (const [name, changes] of Object.entries(CASES)) {
  const all = [];
  for (const learning_rate of tried(changes.learning_rate)) all.push(await course({ ...changes, learning_rate }));
  const { losses, held, bytes, rate } = all.reduce((best, next) => (next.held < best.held ? next : best));
  // Single batches differ, so a point of the course is the mean of up to five steps.
  const point = (step) =>
    losses.slice(Math.max(0, step - 5), step).reduce((sum, loss, _, some) => sum + loss / some.length, 0);
  const row = [
    name,
    rate,
    ...shown.map((step) => point(step).toFixed(3)),
    held.toFixed(3),
    `${(bytes / 2 ** 20).toFixed(2)} MiB`,
  ];
  console.log(`| ${row.join(" | ")} |`);
  if (rates > 1) console.error(`  ${name}: ${all.map((each) => `${each.rate} ${each.held.toFixed(3)}`).join(", ")}`);
}

const timed = [];
for (const [name, changes] of Object.entries(CASES)) timed.push({ name, run: await open(changes), ms: [] });
for (let round = 0; round <= ROUNDS; round++) {
  // The first round, in which GaLore computes its directions, is shown separately.
  for (const row of timed) row.ms.push(take(row.run, round + 1, 1e-6).ms);
}
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const base = median(timed[0].ms.slice(1));
console.log("\n| optimizer | step time against adamw | first step |\n| --- | ---: | ---: |");
for (const { name, ms } of timed) {
  console.log(`| ${name} | ${(median(ms.slice(1)) / base).toFixed(2)} | ${(ms[0] / base).toFixed(2)} |`);
}
for (const { run } of timed) freeRun(run);
rmSync(folder, { recursive: true });
