// Deep models whose layers differ are planned from a few of them, with the figures of the whole.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../families/registry.js";
import { sizedBatch } from "../train/full-batch.js";
import { depthsOf } from "./depths.js";
import { planStep } from "./plan.js";
import { shadowStep } from "./shadow-step.js";
import { SIZES, settingsOf } from "./testing-grid.js";

const architectureOf = (layers: number, changes: Record<string, unknown>) =>
  readArchitecture({ ...SIZES, model_type: "qwen3_moe", num_hidden_layers: layers, ...changes }, "test");

const PLAIN = { checkpoint_first_blocks: 0, checkpoint_last_blocks: 0, blocks_per_step: 1, freeze: [] };

for (const [what, changes, ends, depths] of [
  ["layers of one kind", {}, {}, [2, 3]],
  ["dense ones first", { mlp_only_layers: [0, 1, 2] }, {}, [5, 6]],
  ["two kinds in turn", { decoder_sparse_step: 2 }, {}, [4, 6]],
  ["four in turn", { decoder_sparse_step: 4 }, {}, [8, 12]],
  ["two in turn, in units of three", { decoder_sparse_step: 2 }, { blocks_per_step: 3 }, [12, 18]],
  ["dense ones first, and ordinary ends", { mlp_only_layers: [0] }, { checkpoint_first_blocks: 2 }, [4, 5]],
  ["an odd one at the end", { mlp_only_layers: [23] }, {}, [24]],
  ["no rule", { mlp_only_layers: [1, 4, 9, 16, 23] }, {}, [24]],
] as const) {
  test(`${what}: the plan is that of all layers`, () => {
    const architecture = architectureOf(24, changes);
    assert.deepEqual(depthsOf({ ...PLAIN, ...ends }, architecture, 2), depths);
    const settings = settingsOf({ max_length: 32, per_device_train_batch_size: 1, ...ends });
    const geometry = { architecture, dtypeOf: () => "float32" as const };
    const whole = shadowStep(settings, geometry, [sizedBatch(settings)]);
    const plan = planStep(settings, geometry);
    assert.deepEqual(plan.terms, whole.terms);
    assert.equal(plan.kept.bitBytes, whole.bitBytes);
  });
}
