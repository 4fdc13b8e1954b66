// The estimate of a step's time: where steps are timed, how times are carried on, and what it refuses. How near it comes is measured, not tested.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../families/registry.js";
import { ledger } from "../torch/memory.js";
import { extendedMs, placesOf, stepMs } from "./calibrate.js";
import type { SettingValue } from "../settings/table.js";
import type { Geometry } from "./shadow-step.js";
import { SIZES, settingsOf } from "./testing-grid.js";

const SMALL = { max_length: 32, per_device_train_batch_size: 1 };

function geometryOf(sizes: Record<string, unknown>): Geometry {
  const source = { ...SIZES, model_type: "qwen2_moe", ...sizes };
  return { architecture: readArchitecture(source, "test"), dtypeOf: () => "float32" };
}

test("steps are timed with one unit and two between the ordinary ends, with one micro-batch and two", () => {
  const deep = geometryOf({ num_hidden_layers: 24 });
  assert.deepEqual(placesOf(settingsOf({ ...SMALL, gradient_accumulation_steps: 8 }), deep), {
    depths: [1, 2],
    counts: [1, 2],
  });
  const divided = settingsOf({ ...SMALL, blocks_per_step: 3, checkpoint_first_blocks: 1, checkpoint_last_blocks: 2 });
  assert.deepEqual(placesOf(divided, deep), { depths: [6, 9], counts: [1] });
  assert.deepEqual(
    placesOf(settingsOf({ ...SMALL, gradient_accumulation_steps: 2 }), geometryOf({ num_hidden_layers: 2 })),
    {
      depths: [2],
      counts: [2],
    },
  );
  const mixed = geometryOf({ num_hidden_layers: 24, mlp_only_layers: [3] });
  assert.deepEqual(placesOf(settingsOf(SMALL), mixed).depths, [5, 6], "the one that is not like the others is timed");
  const last = geometryOf({ num_hidden_layers: 24, mlp_only_layers: [23] });
  assert.deepEqual(placesOf(settingsOf(SMALL), last).depths, [24], "none stands for the last one");
  const alternating = geometryOf({ num_hidden_layers: 24, decoder_sparse_step: 2 });
  assert.deepEqual(placesOf(settingsOf(SMALL), alternating).depths, [2, 4], "two kinds in turn");
});

test("times are carried on along both lines", () => {
  // 100 once, 7 for each block, and for each micro-batch 50 and 3 for each block.
  const ms = (depth: number, count: number): number => 100 + 7 * depth + count * (50 + 3 * depth);
  const places = { depths: [1, 2], counts: [1, 2] };
  const times = places.depths.map((depth) => places.counts.map((count) => ms(depth, count)));
  assert.equal(extendedMs(times, places, { depth: 24, count: 8 }), ms(24, 8));
  assert.equal(
    extendedMs([[20], [18]], { depths: [1, 2], counts: [1] }, { depth: 24, count: 1 }),
    20,
    "a clock may be off, and more never takes less",
  );
  assert.equal(extendedMs([[12]], { depths: [3], counts: [1] }, { depth: 3, count: 1 }), 12);
});

const WAYS: Record<string, SettingValue>[] = [
  {},
  { coupling: "revffn" },
  { method: "store", coupling: "ordinary", gradient_accumulation_steps: 3 },
  { expert_group_size: 3 },
];
for (const flags of WAYS) {
  test(`a step's time is estimated and nothing stays alive: ${JSON.stringify(flags)}`, () => {
    const before = ledger();
    const ms = stepMs(settingsOf({ ...SMALL, ...flags }), geometryOf({ num_hidden_layers: 6 }));
    assert.ok(Number.isFinite(ms) && ms > 0);
    const after = ledger();
    assert.deepEqual([after.tensors, after.liveBytes], [before.tensors, before.liveBytes]);
  });
}

test("a model too wide for this machine is told before anything is made", () => {
  const wide = geometryOf({ hidden_size: 8192, moe_intermediate_size: 16_384, num_experts: 64, num_hidden_layers: 8 });
  assert.throws(() => stepMs(settingsOf(SMALL), wide), {
    name: "UserError",
    message:
      /^calibrate: a step of the model's width with 2 blocks takes \d.* GiB, and .* available\. Leave calibrate out, or give less work\.$/,
  });
});
