// Parameters on disk: the same bits as in memory, whatever the optimizer keeps, and nothing left behind.
import type { Architecture } from "../model/architecture.js";
import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { openSource } from "../checkpoint/source.js";
import { readArchitecture } from "../families/registry.js";
import { randomModel } from "../model/model.js";
import { readHeader } from "../checkpoint/safetensors/header.js";
import { createPartFile } from "../store/disk/part-file.js";
import { workingFolder } from "../checkpoint/run/marker.js";
import { WorkingCopy } from "../store/disk/working-copy.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { free } from "../torch/scope.js";
import { byteSize } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { freeRun, prepareRun } from "./prepare.js";
import type { TrainSettings } from "./settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "./testing-run.js";

const CASES: [string, Partial<TrainSettings>][] = [
  ["adamw, float32 masters, micro-batches", { gradient_accumulation_steps: 2 }],
  ["adamw8bit, bfloat16 stochastically rounded", { optimizer: "adamw8bit", weights_dtype: "bfloat16" }],
  ["adamw, bfloat16 with correction", { weights_dtype: "bfloat16", weights_correction: "8bit", blocks_per_step: 2 }],
  [
    "adafactor, bfloat16, micro-batches",
    { optimizer: "adafactor", weights_dtype: "bfloat16", gradient_accumulation_steps: 2 },
  ],
  ["lomo keeps no state", { optimizer: "lomo", learning_rate: 1e-2, durability: "step" }],
  ["random weights, every step durable", { init_weights: "random", durability: "step", freeze_router: true }],
  ["experts in groups", { expert_group_size: 3, gradient_accumulation_steps: 2 }],
  ["revffn with adapters, checkpointed", { coupling: "revffn", method: "checkpoint" }],
];
for (const [name, changes] of CASES) {
  test(`disk and device give the same bits: ${name}`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { max_steps: 4, validation_rows: 2, parameters: "disk", ...changes });
    const { durability: _, ...rest } = settings;
    const device = await runTraining({
      ...rest,
      durability: "snapshot",
      parameters: "device",
      output_dir: place.out("device"),
    });
    const live = ledger(TEST_DEVICE).liveBytes;
    const disk = await runTraining(settings, {
      look: ({ state: { network }, states }) => {
        const { model } = network;
        const mapped = [
          ...[model.outer, ...model.blocks].flatMap((some) => Object.values(some)),
          ...states.tensors().map(({ tensor }) => tensor),
        ];
        assert.ok(ledger(TEST_DEVICE).mappedBytes >= mapped.reduce((sum, tensor) => sum + byteSize(tensor), 0));
        assert.equal(ledger(TEST_DEVICE).liveBytes, live);
        assert.ok(existsSync(workingFolder(settings.output_dir)));
      },
    });
    assert.deepEqual(disk.losses, device.losses);
    assert.deepEqual(disk.evals, device.evals);
    assert.deepEqual(weightsOf(disk.outcome.folder), weightsOf(device.outcome.folder));
    assert.deepEqual(disk.outcome.memory?.weightBytes, 0);
    assert.ok(!existsSync(workingFolder(settings.output_dir)));
  });
}

test("a stopped disk run goes on from its checkpoint, and in memory as well", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { parameters: "disk", max_steps: 6, weights_dtype: "bfloat16" });
  const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
  const stopped = await runTraining(settings, { stopAt: 3 });
  assert.ok(!existsSync(workingFolder(settings.output_dir)));
  for (const parameters of ["device", "disk"] as const) {
    const resumed = await runTraining({ ...settings, parameters, resume: "latest" });
    assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
    assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
  }
});

const TIED = fileURLToPath(new URL("../../test/golden/hf-tied", import.meta.url));

const ON_HOST: [string, Partial<TrainSettings>][] = [
  ["adamw8bit", { optimizer: "adamw8bit", weights_dtype: "bfloat16" }],
  ["experts in groups", { expert_group_size: 1, weights_dtype: "bfloat16", optimizer: "adalomo" }],
  [
    "two blocks a step, norms of all gradients, held-out rows",
    { blocks_per_step: 2, max_grad_norm: 0.5, eval_steps: 1, validation_rows: 2 },
  ],
  [
    "a tied head, checkpointed, micro-batches",
    { coupling: "ordinary", method: "checkpoint", gradient_accumulation_steps: 2 },
  ],
  ["one block stays", { blocks_on_device: 1, optimizer: "adamw8bit", weights_dtype: "bfloat16" }],
  [
    "most blocks stay, experts in groups",
    { blocks_on_device: 2, expert_group_size: 2, gradient_accumulation_steps: 2 },
  ],
  ["all blocks stay", { blocks_on_device: 100, max_grad_norm: 0.5 }],
  ["two phases", { coupling: "revffn", adapter_steps: 1, weights_dtype: "bfloat16", weights_correction: "8bit" }],
];
for (const [name, changes] of ON_HOST) {
  test(`host: weights and state copied for every update give the same bits: ${name}`, async (t) => {
    const place = makeWorkplace(t);
    if (name.startsWith("a tied head")) {
      for (const file of ["config.json", "model.safetensors"]) cpSync(join(TIED, file), join(place.model, file));
    }
    const { blocks_on_device = 0, ...others } = changes;
    const settings = settingsFor(place, { max_steps: 3, ...others });
    const device = await runTraining({ ...settings, output_dir: place.out("device") });
    // What the command line refuses without a GPU; here the host is its own device. Nothing may be alive afterwards.
    const host = await runTraining({ ...settings, parameters: "host", blocks_on_device });
    assert.deepEqual(host.losses, device.losses);
    assert.deepEqual(host.evals, device.evals);
    assert.deepEqual(weightsOf(host.outcome.folder), weightsOf(device.outcome.folder));
  });
}

test("host: where memory runs out in a step, that is what is said, and nothing is left", {
  skip: TEST_DEVICE !== "cpu" && "only the CPU has a limit",
}, async (t) => {
  const place = makeWorkplace(t);
  const settings = { ...settingsFor(place, { max_steps: 2, optimizer: "adamw8bit" }), parameters: "host" } as const;
  let before = 0;
  resetPeak();
  await runTraining(settings, { look: () => (before = ledger().liveBytes) });
  const taken = ledger().peakBytes - before;
  const spans = new Set<string | undefined>();
  for (let share = 0.02; share < 0.99; share += 0.02) {
    const memory_limit = `${Math.round(before + share * taken)}B`;
    await assert.rejects(
      runTraining({ ...settings, memory_limit, output_dir: place.out(`${share}`) }),
      (failure: Error & { code?: string; span?: string }) => {
        spans.add(failure.span);
        return failure.code === "OUT_OF_MEMORY";
      },
    );
  }
  assert.ok(spans.has("weights in compute form") && spans.size > 3, [...spans].join("; "));
});

test("a setting that the model cannot have leaves no working copy behind, and keeps one that a run can go on with", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { parameters: "disk", durability: "step", max_steps: 3 });
  const folder = workingFolder(settings.output_dir);
  const refused = { ...settings, optimizer: "galore_adamw", galore_rank: 4096 } as const;
  await assert.rejects(prepareRun(refused), { name: "UserError", message: /^galore_rank: 4096/ });
  assert.ok(!existsSync(folder));
  freeRun(await prepareRun(settings));
  assert.ok(existsSync(folder));
  await assert.rejects(prepareRun({ ...settings, resume: "latest", weights_correction: "8bit" }), {
    name: "UserError",
    message: /^weights_correction/,
  });
  assert.ok(existsSync(folder));
  const { losses } = await runTraining({ ...settings, resume: "latest", max_steps: 2 });
  assert.equal(losses.length, 2);
  assert.ok(!existsSync(folder));
});

test("a disk without room is refused before anything is written", (t) => {
  const place = makeWorkplace(t);
  const folder = place.out("small");
  const architecture = architectureIn(place.model);
  const copy = new WorkingCopy({
    device: "cpu",
    architecture,
    folder,
    durability: "snapshot",
    blocksOnDevice: 0,
    stateBytes: () => 2 ** 60,
  });
  assert.throws(() => randomModel(architecture, 1, "float32", "cpu", copy.allocate), {
    name: "UserError",
    message: /small: \d.* are needed, but only .* are free on its disk/,
  });
  assert.ok(!existsSync(folder));
});

const architectureIn = (path: string): Architecture => readArchitecture(openSource(path).config, path);

test("every tensor of a working copy begins at a multiple of 64 bytes, and nothing else is seen of the padding", (t) => {
  const path = join(makeWorkplace(t).out("parts"), "..", "part.safetensors");
  const shapes = [[3, 5], [7], [2, 2, 9]];
  const made = createPartFile(
    path,
    shapes.map((shape, i) => ({ name: `t${i}`, dtype: i === 1 ? "bfloat16" : "float32", shape })),
  );
  const { entries } = readHeader(path);
  for (const name of made.tensors.keys()) assert.equal((entries.get(name)?.begin as number) % 64, 0, name);
  assert.deepEqual([...made.tensors.keys()].sort(), ["t0", "t1", "t2"]);
  free(...made.tensors.values());
  made.mapping.close();
});
