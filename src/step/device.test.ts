// What a device with memory of its own adds: main memory beside it holds what a run lets wait there, and a run has the same bits every time.
// Skipped on the CPU, which is its own host; see torch/testing-device.ts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { TEST_DEVICE } from "../torch/testing-device.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../train/testing-run.js";

const skip = TEST_DEVICE === "cpu" && "no other device is tested";

const BFLOAT16: Partial<TrainSettings> = { compute_dtype: "bfloat16", weights_dtype: "bfloat16", max_steps: 4 };

for (const [name, changes] of [
  ["float32", { compute_dtype: "float32" }],
  ["bfloat16, adamw8bit", { optimizer: "adamw8bit" }],
  ["bfloat16, adalomo, tiles of tokens", { optimizer: "adalomo", tile_tokens: 16, loss_tile_tokens: 16 }],
  ["bfloat16, router losses", { router_aux_loss_coef: 0.01, router_z_loss_coef: 0.01, router_jitter_noise: 0.01 }],
] as [string, Partial<TrainSettings>][]) {
  test(`a run has the same bits when it is repeated: ${name}`, { skip }, async (t) => {
    const place = makeWorkplace(t);
    const [once, twice] = ["once", "twice"].map((output) =>
      settingsFor(place, { ...BFLOAT16, ...changes, output_dir: place.out(output) }),
    );
    const runs = [await runTraining(once), await runTraining(twice)];
    assert.deepEqual(runs[1].losses, runs[0].losses);
    assert.deepEqual(weightsOf(runs[1].outcome.folder), weightsOf(runs[0].outcome.folder));
  });
}

for (const [name, changes, here] of [
  ["stored bits", { stored_bits: "host" }, {}],
  [
    "block inputs",
    { method: "checkpoint-offload", coupling: "ordinary" },
    { method: "checkpoint", coupling: "ordinary" },
  ],
  [
    "parameters and state",
    { parameters: "host", optimizer: "adalomo", gradient_accumulation_steps: 2 },
    { parameters: "device" },
  ],
  [
    "parameters and state, norms of all gradients",
    { parameters: "host", max_grad_norm: 0.5 },
    { parameters: "device" },
  ],
  ["parameters alone", { parameters: "host", optimizer: "lomo", learning_rate: 1e-2 }, { parameters: "device" }],
] as [string, Partial<TrainSettings>, Partial<TrainSettings>][]) {
  test(`what waits in host memory comes back with the same bits: ${name}`, { skip }, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { ...BFLOAT16, ...changes });
    const host = await runTraining(settings);
    const device = await runTraining({ ...settings, stored_bits: "device", ...here, output_dir: place.out("device") });
    assert.deepEqual(host.losses, device.losses);
    assert.deepEqual(weightsOf(host.outcome.folder), weightsOf(device.outcome.folder));
  });
}

test("losses are those of the CPU", { skip }, async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 4 });
  const there = await runTraining(settings);
  const here = await runTraining({ ...settings, device: "cpu", output_dir: place.out("cpu") });
  for (const [i, loss] of there.losses.entries()) {
    assert.ok(Math.abs(loss / here.losses[i] - 1) < 1e-5, `step ${i + 1}: ${loss} there, ${here.losses[i]} here`);
  }
});
