// The settings of the router in whole runs: what is reported and saved, what a resumed run repeats, and what is refused.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import { freeRun, prepareRun } from "./prepare.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "./testing-run.js";

const ON = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };

function changeConfig({ model }: Workplace, changes: Record<string, unknown>): void {
  const path = join(model, "config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
}

test("router losses are reported beside the loss, and fall; a stopped and resumed run has the same bits", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...ON, gradient_accumulation_steps: 2 });
  const whole = await runTraining(settings);
  const [first, last] = [whole.steps[0], whole.steps[9]];
  assert.ok(
    (first.auxLoss as number) > 2 && (first.zLoss as number) > (last.zLoss as number),
    "two experts of six per token",
  );
  assert.ok(last.loss < first.loss);
  const weights = weightsOf(whole.outcome.folder);

  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 4 });
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
  const figures = ({ loss, auxLoss, zLoss }: (typeof whole.steps)[0]) => [loss, auxLoss, zLoss];
  assert.deepEqual([...stopped.steps, ...resumed.steps].map(figures), whole.steps.map(figures));
  assert.ok(weightsOf(resumed.outcome.folder).equals(weights));
});

test("a frozen router is saved as it was loaded; a resumed run keeps it frozen", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { freeze_router: true, max_steps: 4 });
  const stopped = await runTraining(settings, { stopAt: 2 });
  const { outcome } = await runTraining({ ...settings, resume: "latest" });
  await assert.rejects(runTraining({ ...settings, freeze_router: false, resume: stopped.outcome.folder }), {
    message:
      /^freeze_router: false here, but .*checkpoint-2 was trained with true\. Give the same value, or start a new run/,
  });
  const [before, after] = [place.model, outcome.folder].map((folder) =>
    openSafetensors(join(folder, "model.safetensors")),
  );
  for (const name of after.entries.keys()) {
    const same = scope(() => String(toArray(before.read(name))) === String(toArray(after.read(name))));
    assert.equal(same, name.endsWith("mlp.gate.weight"), name);
  }
});

test("a model without routers refuses their settings by name", (t) => {
  const place = makeWorkplace(t);
  changeConfig(place, { mlp_only_layers: [0, 1, 2] });
  const others = [
    ["router_bias_update_rate", 0.001],
    ["freeze_router", true],
  ] as const;
  for (const [name, value] of [...Object.entries(ON), ...others]) {
    assert.throws(() => prepareRun(settingsFor(place, { init_weights: "random", [name]: value })), {
      name: "UserError",
      message: `${name}: ${value} has no effect: no layer of ${place.model} has a router. Remove it.`,
    });
  }
});

test("what config.json asks for in training and a run leaves off is said", (t) => {
  const place = makeWorkplace(t);
  const notesWith = (changes: Record<string, unknown>, settings = {}): string[] => {
    changeConfig(place, changes);
    const run = prepareRun(settingsFor(place, { coupling: "ordinary", method: "store", ...settings }));
    freeRun(run);
    return run.notes;
  };
  assert.deepEqual(notesWith({}), []);
  assert.deepEqual(notesWith({ output_router_logits: false, router_aux_loss_coef: 0.02 }), []);
  assert.deepEqual(notesWith({ output_router_logits: true }), [
    "config.json has router_aux_loss_coef 0.02, which is off here unless it is given as a setting",
  ]);
  assert.deepEqual(notesWith({}, { router_aux_loss_coef: 0.001 }), []);
  assert.deepEqual(notesWith({ output_router_logits: false, router_jitter_noise: 0.1 }), [
    "config.json has router_jitter_noise 0.1, which is off here unless it is given as a setting",
  ]);
  assert.deepEqual(notesWith({ router_jitter_noise: 0, attention_dropout: 0.1 }), [
    "config.json has attention_dropout 0.1, which is not done here",
  ]);
});
