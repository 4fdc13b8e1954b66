// Every optimiser in whole runs on the tiny model: it learns, resumes in the same bits, takes the bytes that were planned;
// and what makes no sense is refused in a sentence.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { dtype } from "../torch/tensor.js";

import { makeOptimizer, OPTIMIZERS, type OptimizerName } from "../optim/registry.js";
import { plannedStateBytes } from "./optimizer-states.js";
import type { Run } from "../train/prepare.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../train/testing-run.js";

/** Where 500 times a good rate is none at which the tiny model learns within ten steps: one that is, and what else it needs. */
const CASES: Partial<Record<OptimizerName, Partial<TrainSettings>>> = {
  adalomo: { learning_rate: 3e-2 },
  lomo: { learning_rate: 1 },
  sgd: { learning_rate: 0.1 },
  galore_adamw: { learning_rate: 1e-2, galore_rank: 4, galore_update_gap: 3, galore_scale: 1 },
};

/** The bytes that were planned are those of the state, and the state has these kinds of tensors. */
function checkState({ states, state: { network }, settings }: Run): void {
  const weights = dtype(Object.values(network.model.outer)[0]);
  const weightsCorrection = settings.weights_correction === "8bit";
  assert.equal(weights, settings.weights_dtype);
  assert.equal(
    states.bytes,
    plannedStateBytes(makeOptimizer(settings, "float32"), network.model.architecture, weights, { weightsCorrection }),
  );
  const kinds = KINDS[settings.optimizer];
  if (kinds === undefined) return;
  const names = states.tensors().map(({ name }) => name);
  const expert = "model.layers.0.mlp.experts.gate_up_proj";
  assert.deepEqual(
    names.filter((name) => name.endsWith(`.${expert}`)).sort(),
    [...kinds, ...(weightsCorrection ? ["correction"] : [])].map((kind) => `${kind}.${expert}`).sort(),
  );
}

/** The names that checkpoints of earlier runs have. */
const KINDS: Partial<Record<OptimizerName, string[]>> = {
  adamw: ["m", "v"],
  adamw8bit: ["m", "m_scale", "v", "v_scale"],
  adafactor: ["column", "row"],
  adalomo: ["column", "row"],
  lomo: [],
  sgd: ["buffer"],
  galore_adamw: ["m", "projection", "v"],
  muon: ["buffer"],
};

/** Experts of 9216 elements together: below 4096, no state has 8 bits. The weights on disk no longer fit. */
function widenExperts(model: string): void {
  const path = join(model, "config.json");
  const config = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...config, moe_intermediate_size: 32 }));
}

for (const { name: optimizer, goodRates } of OPTIMIZERS) {
  for (const more of [
    { weights_dtype: "float32" },
    { weights_dtype: "bfloat16" },
    { weights_dtype: "bfloat16", weights_correction: "8bit" },
  ] as const) {
    const name = [optimizer, ...Object.values(more)].join(", ");
    test(`${name}: learns; stopped after step 5 and resumed, it ends in the same bytes`, async (t) => {
      const place = makeWorkplace(t);
      widenExperts(place.model);
      const settings = settingsFor(place, {
        optimizer,
        learning_rate: 500 * goodRates[0],
        ...CASES[optimizer],
        ...more,
        init_weights: "random",
        gradient_accumulation_steps: 2,
        weight_decay: 0.1,
      });
      const whole = await runTraining({ ...settings, output_dir: place.out("whole") }, { look: checkState });
      assert.ok(whole.losses[9] < 0.85 * whole.losses[0], `losses ${whole.losses.join(", ")}`);
      const stopped = await runTraining(settings, { stopAt: 5 });
      const resumed = await runTraining({ ...settings, resume: join(settings.output_dir, "checkpoint-5") });
      assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
      assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
    });
  }
}

test("a run cannot change its optimiser or its masters midway", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, {
    max_steps: 2,
    save_steps: 1,
    optimizer: "adafactor",
    weights_dtype: "bfloat16",
  });
  await runTraining(settings);
  const resume = join(settings.output_dir, "checkpoint-1");
  await assert.rejects(runTraining({ ...settings, optimizer: "adalomo", resume }), {
    name: "UserError",
    message: /^optimizer: adalomo here, but .*checkpoint-1 was trained with adafactor\./,
  });
  await assert.rejects(runTraining({ ...settings, weights_correction: "8bit", resume }), {
    name: "UserError",
    message: /^weights_correction: 8bit here, but .* was trained with none\./,
  });
});

test("settings that have no effect on the model at hand are refused", async (t) => {
  const place = makeWorkplace(t);
  for (const [changes, expected] of [
    [
      { weights_correction: "8bit" },
      /^weights_correction: 8bit has no effect: the weights of .*model are float32 \(expected bfloat16\)\./,
    ],
    [
      { optimizer: "galore_adamw" },
      /^galore_rank: 128 leaves no matrix of .*model to project \(expected less than 24, /,
    ],
  ] as [Partial<TrainSettings>, RegExp][]) {
    await assert.rejects(runTraining(settingsFor(place, changes)), (failure: unknown) => {
      assert.ok(
        failure instanceof UserError && expected.test(failure.message) && !failure.message.includes("\n"),
        String(failure),
      );
      return true;
    });
  }
});
