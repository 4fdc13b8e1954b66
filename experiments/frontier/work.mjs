// The process that run.mjs measures: makes the model on disk, trains on one repeated batch, and prints a line of JSON
// for each step. Its argument is JSON; it writes to the folder given there and removes only the working copy.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout } from "node:timers/promises";
import { spawnSync } from "node:child_process";

import {
  describeMemory,
  freeRun,
  memoryTerms,
  parameterCount,
  phaseAt,
  placedParameters,
  planRun,
  prepareRun,
  resetPeak,
  resolveSettings,
  stepOptions,
  synchronize,
  trainStep,
} from "revmoe";
import { makeData } from "../../examples/make-data.mjs";
import { configOf } from "./geometry.mjs";

const options = JSON.parse(process.argv[2]);
const { folder, tokens, steps, rate, parameters = "disk", device = "cpu" } = options;
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const model = join(folder, "model");
mkdirSync(model, { recursive: true });
writeFileSync(
  join(model, "config.json"),
  JSON.stringify(configOf(options.geometry ?? "qwen1.5-moe-a2.7b", options), null, 2),
);
const tiny = fileURLToPath(new URL("../../examples/tiny-moe", import.meta.url));
for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(tiny, file), join(model, file));
const { train } = makeData("moby-dick", folder);

const { settings } = resolveSettings({
  flags: {
    model,
    init_weights: "random",
    weights_dtype: "bfloat16",
    compute_dtype: options.computeDtype ?? "auto",
    ...(options.expertGroupSize ? { expert_group_size: options.expertGroupSize } : {}),
    ...(options.lossTileTokens ? { loss_tile_tokens: options.lossTileTokens } : {}),
    train_file: train,
    output_dir: join(folder, "run"),
    device,
    ...(options.method ? { method: options.method } : {}),
    ...(options.method && options.method !== "reversible" ? { coupling: "ordinary" } : {}),
    parameters,
    ...(parameters === "disk" ? { durability: options.durability ?? "snapshot" } : {}),
    optimizer: options.optimizer,
    learning_rate: rate,
    lr_scheduler_type: "constant",
    warmup_ratio: 0,
    max_length: tokens,
    per_device_train_batch_size: options.rows ?? 1,
    max_steps: steps,
    // The gamma of the figures in docs/benchmarks.md.
    ...(options.method && options.method !== "reversible" ? {} : { stream_fraction_bits: 16, gamma: -1 / 16 }),
    ...(options.tileTokens === undefined ? {} : { tile_tokens: options.tileTokens }),
  },
});
const started = performance.now();
const run = await prepareRun(settings);
const { states, data } = run;
const { network } = run.state;
say({
  kind: "made",
  makeS: (performance.now() - started) / 1000,
  parameters: parameterCount(placedParameters(network.model.architecture)),
});
say({ kind: "planned", ...planRun(run).plan.placed });
const batches = Array.from({ length: options.microBatches ?? 1 }, () => data.next());
let memory;
for (let step = 1; step <= steps; step++) {
  const before = transferred();
  resetPeak(device);
  synchronize(device);
  const began = performance.now();
  const result = trainStep(network, states, batches, stepOptions(settings, phaseAt(run.phases, step), step));
  network.store.finishStep({ step, batches: data.state(), settings });
  synchronize(device);
  const seconds = (performance.now() - began) / 1000;
  const times = network.store.takeTimes();
  memory = memoryTerms(network, states, result);
  const after = transferred();
  say({
    kind: "step",
    step,
    loss: result.loss,
    seconds,
    waitS: times.waitMs / 1000,
    updateS: times.updateMs / 1000,
    writeS: (times.logMs + times.syncMs) / 1000,
    readBytes: after.read_bytes - before.read_bytes,
    writtenBytes: after.write_bytes - before.write_bytes,
  });
  await setTimeout(0);
}
const flushing = performance.now();
spawnSync("sync");
say({
  kind: "end",
  flushS: (performance.now() - flushing) / 1000,
  tokens: batches.reduce((sum, batch) => sum + batch.tokens.length, 0),
  memory,
  terms: describeMemory(memory),
});
freeRun(run, true);

/** Bytes that this process has moved to and from the disk, as the kernel counts them. */
function transferred() {
  const text = readFileSync("/proc/self/io", "utf8");
  return Object.fromEntries(
    text
      .trim()
      .split("\n")
      .map((line) => line.split(": "))
      .map(([name, count]) => [name, Number(count)]),
  );
}
