// Runs of ranks whose experts stay where they are, while rows of tokens go there and back: one process's numbers but for the last places, the same every
// time, whatever the family and the optimizer.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, runTraining, weightsOf, type Workplace } from "../testing-run.js";
import { type Pair, pairFor } from "./testing-pairs.js";
import { trainOnRanks } from "./testing-ranks.js";

const ROWS = { parameters: "sharded", share_experts: "rows" } as const;
const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };

function assertNear(actual: number | null, expected: number | null, where: string): void {
  if (actual === expected) return;
  assert.ok(actual !== null && expected !== null, where);
  assert.ok(Math.abs(actual - expected) <= 1e-5 * Math.abs(expected), `${where}: ${actual}, expected ${expected}`);
}

/** Runs each pair twice on so many ranks, and compares with one process and the same micro-batches. */
async function checkNear(place: Workplace, pairs: Pair[], world = 2): Promise<void> {
  const again = pairs.map(({ two }) => ({ settings: { ...two, output_dir: `${two.output_dir}-again` } }));
  const saw = await trainOnRanks(place.folder, world, [...pairs.map(({ two: settings }) => ({ settings })), ...again]);
  for (const [i, { name, one, two }] of pairs.entries()) {
    const { failure, steps, outcome } = saw[0][i];
    assert.equal(failure, null, name);
    const micro = two.gradient_accumulation_steps * world;
    const alone = await runTraining({
      ...one,
      ...{ share_experts: "weights", rank_sums: "ordered", gradient_accumulation_steps: micro },
    });
    assert.equal(steps.length, alone.steps.length);
    for (const [step, { loss, gradNorm, trainedTokens, auxLoss, zLoss, expertLoad }] of alone.steps.entries()) {
      const where = `${name}, ${world} ranks, step ${step}`;
      assert.equal(steps[step].trainedTokens, trainedTokens, where);
      assertNear(steps[step].loss, loss, `${where}: loss`);
      assertNear(steps[step].gradNorm, gradNorm, `${where}: norm`);
      assertNear(steps[step].auxLoss, auxLoss, `${where}: auxiliary loss`);
      assertNear(steps[step].zLoss, zLoss, `${where}: z-loss`);
      assert.deepEqual(steps[step].expertLoad, expertLoad, where);
    }
    assert.ok(weightsOf(outcome.folder).equals(weightsOf(saw[0][pairs.length + i].outcome.folder)), `${name}: repeated`);
  }
}

test("plain", async (t) => {
  const place = makeWorkplace(t);
  await checkNear(place, [pairFor(place, "plain", ROWS)]);
});
