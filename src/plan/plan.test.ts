// Plans from small depths against the whole, the choice of what fits, and the words around them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import type { RunEvent } from "../metrics/record.js";
import { readArchitecture } from "../families/registry.js";
import type { TrainSettings } from "../train/settings/settings.js";
import type { SettingValue } from "../settings/table.js";
import { fullBatch } from "../train/full-batch.js";
import { largestThatFits, waysToFit, withBlocksOnDevice } from "./choose.js";
import { comparePlans } from "./compare.js";
import { readGeometry } from "./geometry.js";
import { explainOutOfMemory } from "./out-of-memory.js";
import { type Plan, planStep } from "./plan.js";
import { type Geometry, shadowStep } from "./shadow-step.js";
import { planChart } from "./svg.js";
import { settingsOf, SIZES } from "./testing-grid.js";
import { watching } from "./watch.js";
import { settingWords, trainFlags } from "./words.js";

function geometryOf(sizes: Record<string, unknown> = {}): Geometry {
  const source = { ...SIZES, model_type: "qwen3_moe", ...sizes };
  return { architecture: readArchitecture(source, "test"), dtypeOf: () => "float32" };
}

const WORK = { max_length: 64, per_device_train_batch_size: 2 };

const WAYS: Record<string, SettingValue>[] = [
  {},
  { coupling: "bdia" },
  { coupling: "revffn" },
  { blocks_per_step: 2 },
  { method: "checkpoint", coupling: "ordinary" },
  { method: "store", coupling: "ordinary", optimizer: "adalomo" },
  { expert_group_size: 2 },
];
for (const way of WAYS) {
  test(`a deep model with many micro-batches is planned from small ones: ${JSON.stringify(way)}`, () => {
    const settings = settingsOf({ ...WORK, gradient_accumulation_steps: 4, ...way });
    const geometry = geometryOf({ num_hidden_layers: 9 });
    const plan = planStep(settings, geometry);
    const whole = shadowStep(settings, geometry, new Array(4).fill(fullBatch(settings, SIZES.vocab_size, 42)));
    assert.deepEqual(plan.terms, whole.terms);
    assert.equal(plan.spans[0].bytes, whole.terms.peakBytes);
    assert.deepEqual([plan.kept.bitBytes, plan.kept.routingBytes], [whole.bitBytes, whole.routingBytes]);
  });
}

test("the 14.3 B geometry is planned from its config.json alone, and its terms are what arithmetic says", () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-plan-"));
  try {
    const path = join(folder, "config.json");
    const config = {
      model_type: "qwen2_moe",
      vocab_size: 151_936,
      hidden_size: 2048,
      intermediate_size: 5632,
      moe_intermediate_size: 1408,
      shared_expert_intermediate_size: 5632,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      num_hidden_layers: 24,
      num_experts: 60,
      num_experts_per_tok: 4,
      torch_dtype: "bfloat16",
    };
    writeFileSync(path, JSON.stringify(config));
    const settings = settingsOf({
      model: path,
      max_length: 64,
      per_device_train_batch_size: 1,
      optimizer: "lomo",
      compute_dtype: "bfloat16",
      gamma: 0.25,
    });
    const { terms, kept } = planStep(settings, readGeometry(settings));
    assert.equal(terms.weightBytes, 2 * 14_315_784_192);
    assert.equal(terms.stateBytes, 0);
    // Two int32 streams behind the blocks, two float32 gradients of theirs.
    assert.equal(terms.streamBytes, 4 * 64 * 2048 * 4);
    assert.equal(kept.bitBytes, (24 * 64 * 2048 * 2) / 8);
    assert.equal(kept.routingBytes, 24 * 64 * 4);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the choice is the largest that fits: one row more does not", () => {
  const geometry = geometryOf();
  const settings = settingsOf(WORK);
  const bytesWith = (changes: object): number => planStep({ ...settings, ...changes }, geometry).placed.deviceBytes;
  const limit = bytesWith({ per_device_train_batch_size: 5 }) + 1000;
  const choice = largestThatFits(settings, geometry, limit);
  assert.deepEqual([choice.fits, choice.flags], [true, { per_device_train_batch_size: 5, max_length: 64 }]);
  assert.ok(bytesWith({ per_device_train_batch_size: 6 }) > limit);
  assert.match(trainFlags(choice.plan.settings), /--max-length 64 .*--per-device-train-batch-size 5 /);
});

test("beside a GPU, blocks stay in what room is left: each takes its weights and state there, and none in main memory", () => {
  const geometry = geometryOf();
  const settings = { ...settingsOf(WORK), device: "cuda", parameters: "host" } as const;
  const planned = (blocks_on_device: number) => planStep({ ...settings, blocks_on_device }, geometry);
  const plans = [0, 1, 2, 3].map(planned);
  const elsewhere = planStep({ ...settings, parameters: "device" }, geometry).terms;
  const last = plans.at(-1) as Plan;
  const { layers } = geometry.architecture;
  assert.equal(layers.length, 3);
  // All but embedding, final norm and head.
  assert.ok(last.terms.weightBytes < elsewhere.weightBytes && last.terms.stateBytes < elsewhere.stateBytes);
  for (const [i, { terms, placed }] of plans.entries()) {
    assert.equal(placed.deviceBytes - plans[0].placed.deviceBytes, terms.weightBytes + terms.stateBytes);
    if (i > 0) assert.ok(terms.weightBytes > plans[i - 1].terms.weightBytes);
    assert.ok(placed.hostBytes <= plans[0].placed.hostBytes);
  }
  assert.deepEqual(planned(7).terms, last.terms);
  const room = plans[2].placed.deviceBytes;
  for (const [bytes, blocks] of [
    [room, 2],
    [room - 1, 1],
    [plans[0].placed.deviceBytes, 0],
    [2 * room, 3],
  ])
    assert.equal(withBlocksOnDevice(plans[0], geometry, bytes).settings.blocks_on_device, blocks);
  const { fits, flags } = largestThatFits(settings, geometry, 40 * room);
  assert.ok(fits);
  assert.equal(flags.blocks_on_device, 3);
});

test("where one row does not fit, it is shortened; where nothing fits, that is said", () => {
  const geometry = geometryOf();
  const settings = settingsOf({ max_length: 512, per_device_train_batch_size: 4 });
  const ofLength = (max_length: number): number =>
    planStep({ ...settings, max_length, per_device_train_batch_size: 1 }, geometry).placed.deviceBytes;
  const short = largestThatFits(settings, geometry, ofLength(192));
  assert.deepEqual([short.fits, short.flags], [true, { per_device_train_batch_size: 1, max_length: 192 }]);
  const none = largestThatFits(settings, geometry, 1000);
  assert.deepEqual([none.fits, none.plan.settings.max_length], [false, 64]);
  assert.deepEqual(waysToFit(settings, geometry, 1000), []);
  for (const { plan } of waysToFit(settings, geometry, ofLength(512) + 1))
    assert.ok(plan.terms.peakBytes <= ofLength(512) + 1);
});

const SHORT = { max_length: 16, per_device_train_batch_size: 1 };

test("another optimizer is a way out by itself where rows take more than gradients, and groups are one where they take less", () => {
  const geometry = geometryOf({ mlp_only_layers: [] });
  const with_ = (settings: TrainSettings, changes: Partial<TrainSettings>): number =>
    planStep({ ...settings, tile_tokens: 512, loss_tile_tokens: 256, ...changes }, geometry).placed.deviceBytes;
  const long = settingsOf({ max_length: 256, per_device_train_batch_size: 1, gradient_accumulation_steps: 16 });
  const limit = with_(long, { optimizer: "lomo" }) + 1000;
  assert.ok(with_(long, { optimizer: "lomo", expert_group_size: 1 }) > limit);
  assert.ok(
    waysToFit(long, geometry, limit).some(({ change }) =>
      settingWords(change).endsWith("loss_tile_tokens: 256, optimizer: lomo"),
    ),
  );
  const short = settingsOf(SHORT);
  const less = with_(short, { expert_group_size: 1 });
  assert.ok(less < with_(short, {}));
  assert.ok(waysToFit(short, geometry, less).some(({ change }) => change.expert_group_size === 1));
  const shared = geometryOf({ mlp_only_layers: [], moe_intermediate_size: 46 });
  const grouped = settingsOf({ ...SHORT, expert_group_size: 1 });
  assert.ok(waysToFit(grouped, shared, 1e12).length > 0);
  assert.deepEqual(
    waysToFit(grouped, shared, 1000),
    [],
    "every other optimizer is tried, but none whose state experts would share",
  );
  const stored = settingsOf({ method: "store", coupling: "ordinary", max_length: 16, per_device_train_batch_size: 1 });
  assert.ok(waysToFit(stored, geometry, 1e12).every(({ change }) => !("expert_group_size" in change)));
});

test("running out of memory is told by span, bytes, settings that fit and the last checkpoint", () => {
  const geometry = geometryOf();
  const settings = settingsOf({ max_length: 64, per_device_train_batch_size: 4, memory_limit: "5MB" });
  const failure = Object.assign(
    new Error("aten::mm(...): the memory limit refused 1048576 bytes; 4194304 bytes are in use"),
    {
      code: "OUT_OF_MEMORY",
      span: "attention, backward",
    },
  );
  const circumstances = {
    settings,
    geometry,
    plan: planStep(settings, geometry),
    lastCheckpoint: "runs/a/checkpoint-7",
  };
  const { message } = explainOutOfMemory(failure, circumstances);
  assert.match(
    message,
    /^cpu: out of memory in attention, backward \(1\.00 MiB asked, 4\.00 MiB in use, 787 KiB free of memory_limit 5MB, planned to reach/,
  );
  assert.match(message, /These would fit: per_device_train_batch_size: /);
  assert.match(message, /runs\/a\/checkpoint-7 is whole: go on from it with resume: latest\.$/);
  const onCuda = {
    settings: { ...settings, device: "cuda", memory_limit: "" },
    geometry: null,
    plan: null,
    lastCheckpoint: null,
  };
  for (const [said, told] of [
    ["(GPU 0; 14.00 GiB total capacity; 11.5 GiB already allocated)", "2.00 GiB asked, 11.5 GiB in use"],
    [
      "GPU 0 has a total capacity of 14.00 GiB of which 1.25 GiB is free. Of the allocated memory 11.5 GiB is allocated by PyTorch, and 1 GiB is reserved",
      "2.00 GiB asked, 11.5 GiB in use, 1.25 GiB free",
    ],
  ]) {
    const { message } = explainOutOfMemory(
      new Error(`CUDA out of memory. Tried to allocate 2.00 GiB. ${said}`),
      onCuda,
    );
    assert.ok(message.startsWith(`cuda: out of memory in preparing the run (${told}). `), message);
    assert.ok(message.endsWith(" No checkpoint was written yet."), message);
  }
});

test("a run is told once that its peak is above the planned one, and nothing of one that is below", () => {
  const plan = planStep(settingsOf(WORK), geometryOf());
  const planned = plan.terms.peakBytes;
  const told = (...peaks: number[]): string[] => {
    const events: RunEvent[] = [];
    const sink = watching({ write: (event) => void events.push(event), close: () => {} }, { plan });
    for (const peakBytes of peaks) sink.write({ kind: "step", step: 1, peakBytes } as unknown as RunEvent);
    return events.flatMap((event) => (event.kind === "message" ? [event.message] : []));
  };
  assert.equal(told(planned, planned * 1.04, planned * 0.96).length, 0);
  assert.match(told(planned * 1.06, planned * 1.2)[0], /\(6 %\)$/);
  assert.equal(told(planned * 1.06, planned * 1.2).length, 1);
  assert.deepEqual(told(planned * 0.95, planned * 0.9, planned * 0.6), []);
  assert.equal(told(0).length, 0, "nothing is known of the peak");
});

test("methods side by side: a bar for each, its parts adding up to its peak", () => {
  const compared = comparePlans(settingsOf(WORK), geometryOf());
  assert.equal(compared.length, 8);
  const svg = planChart(compared, "a < b");
  assert.equal(svg.match(/working set: /g)?.length, 8);
  assert.match(svg, /a &lt; b/);
  const peaks = new Map(compared.map(({ name, plan }) => [name, plan.terms.peakBytes]));
  assert.ok((peaks.get("store, ordinary") as number) > (peaks.get("checkpoint, ordinary") as number));
  // What was asked for beside the method counts for all.
  const onDisk = comparePlans(settingsOf({ ...WORK, parameters: "disk", max_grad_norm: 1 }), geometryOf());
  assert.deepEqual(
    onDisk.map(({ name }) => name),
    compared.map(({ name }) => name).filter((name) => name !== "store, ordinary"),
  );
  for (const { plan } of onDisk) {
    assert.deepEqual([plan.terms.weightBytes, plan.terms.stateBytes, plan.settings.max_grad_norm], [0, 0, 1]);
    assert.ok(plan.placed.diskBytes > 0);
  }
});
