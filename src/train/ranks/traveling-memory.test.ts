// What ranks hold and send whose experts stay where they are: no weights of others' experts, as many bytes as planned, and a choice between both ways
// where they send the same.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { MemoryTerms } from "../../step/memory-terms.js";
import { planStep } from "../../plan/plan.js";
import { plannedShares } from "../../plan/shadow-step.js";
import { stepTraffic } from "../../plan/traffic.js";
import type { TrainSettings } from "../settings/settings.js";
import { settingsFor } from "../testing-run.js";
import { geometryOf, makeLargerWorkplace } from "./testing-larger.js";
import { trainOnRanks } from "./testing-ranks.js";

const WORK: Partial<TrainSettings> = {
  ...{ init_weights: "random", weights_dtype: "bfloat16", parameters: "sharded", share_experts: "rows", max_steps: 2 },
};

test("memory and bytes that are sent are as planned, and less than where weights are brought", async (t) => {
  const place = makeLargerWorkplace(t);
  const geometry = geometryOf(place);
  const wanted: Record<number, Partial<TrainSettings>[]> = {
    2: [
      { optimizer: "adalomo" },
      { optimizer: "adalomo", share_experts: "weights", rank_sums: "direct" },
      { max_grad_norm: 1 },
    ],
    3: [{ optimizer: "adamw8bit" }, { blocks_per_step: 2, tile_tokens: 16 }],
  };
  for (const world of [2, 3]) {
    const cases = wanted[world].map((changes, i) => ({
      settings: settingsFor(place, { ...WORK, ...changes, output_dir: place.out(`${world}-${i}`) }),
    }));
    const saw = await trainOnRanks(place.folder, world, cases);
    const measured = cases.map(({ settings }, i) => {
      assert.equal(saw[0][i].failure, null);
      const terms = saw.map((ran) => ran[i].outcome.memory as MemoryTerms);
      const peak = Math.max(...terms.map(({ peakBytes }) => peakBytes));
      const plan = planStep(settings, geometry, undefined, world);
      const sent = saw.reduce((sum, ran) => sum + ran[i].sent[0], 0);
      const planned = stepTraffic(settings, geometry, world, saw[0][i].tokens[0] / world);
      const [memoryError, trafficError] = [plan.terms.peakBytes / peak - 1, planned / sent - 1];
      const where = `${world} ranks, case ${i}`;
      t.diagnostic(
        `${where}: peak planned ${plan.terms.peakBytes}, measured ${peak}, ${(100 * memoryError).toFixed(1)} %; sent planned ${planned}, measured ${sent}, ${(100 * trafficError).toFixed(1)} %`,
      );
      const { held } = plannedShares(settings, geometry, world);
      assert.deepEqual(
        terms.map(({ weightBytes, stateBytes }) => ({ weightBytes, stateBytes })),
        held,
      );
      assert.ok(Math.abs(memoryError) < 0.06, where);
      // Tokens choose experts of their own rank as often as chance has it.
      assert.ok(Math.abs(trafficError) < 0.05, where);
      return { peak, sent };
    });
    if (world > 2) continue;
    const [rows, weights] = measured;
    assert.ok(rows.peak < weights.peak && rows.sent < weights.sent);
  }
});

test("a plan counts rows once", (t) => {
  const place = makeLargerWorkplace(t);
  const settings = settingsFor(place, { ...WORK, rank_sums: "direct" });
  const geometry = geometryOf(place);
  assert.equal(planStep(settings, geometry, undefined, 4).ranks.sentBytes, stepTraffic(settings, geometry, 4) / 4);
});

test("auto takes what sends less, and says so", (t) => {
  const place = makeLargerWorkplace(t);
  const geometry = geometryOf(place);
  const plan = (max_length: number, changes: Partial<TrainSettings> = {}) =>
    planStep(settingsFor(place, { ...WORK, share_experts: "auto", max_length, ...changes }), geometry, undefined, 4);
  const sentOf = (max_length: number, share_experts: "rows" | "weights"): number =>
    stepTraffic(settingsFor(place, { ...WORK, max_length, share_experts, rank_sums: "direct" }), geometry, 4);
  const evenAt = Number(/below (\d+) tokens/.exec(plan(64).ranks.notes.join())?.[1]);
  for (const [length, says] of [
    [evenAt - 8, /experts stay on their ranks.* as rank_sums direct/],
    [evenAt + 8, /weights of experts are brought/],
  ] as const) {
    assert.match(plan(length).ranks.notes.join(), says);
    assert.equal(sentOf(length, "rows") < sentOf(length, "weights"), length < evenAt);
  }
  // The more tokens in a step, the sooner.
  assert.match(plan(evenAt - 8, { gradient_accumulation_steps: 2 }).ranks.notes.join(), /are brought/);
  assert.deepEqual(plan(64, { share_experts: "weights" }).ranks.notes, []);
});
