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

/** Steps until weights of small gradients, whose update has the size of any, have moved apart; and what is left of nearness then. */
const [EARLY, NEAR, LATER] = [2, 1e-5, 1e-3];

function assertNear(actual: number | null, expected: number | null, step: number, where: string): void {
  if (actual === expected) return;
  assert.ok(actual !== null && expected !== null, where);
  const most = (step < EARLY ? NEAR : LATER) * Math.abs(expected);
  assert.ok(Math.abs(actual - expected) <= most, `${where}, step ${step}: ${actual}, expected ${expected}`);
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
      const where = `${name}, ${world} ranks`;
      assert.equal(steps[step].trainedTokens, trainedTokens, where);
      assertNear(steps[step].loss, loss, step, `${where}: loss`);
      assertNear(steps[step].gradNorm, gradNorm, step, `${where}: norm`);
      assertNear(steps[step].auxLoss, auxLoss, step, `${where}: auxiliary loss`);
      assertNear(steps[step].zLoss, zLoss, step, `${where}: z-loss`);
      if (step < EARLY) assert.deepEqual(steps[step].expertLoad, expertLoad, where);
    }
    assert.ok(
      weightsOf(outcome.folder).equals(weightsOf(saw[0][pairs.length + i].outcome.folder)),
      `${name}: repeated`,
    );
  }
}

test("plain", async (t) => {
  const place = makeWorkplace(t);
  await checkNear(place, [pairFor(place, "plain", ROWS)]);
});

test("several optimizers, clipping, losses of the router, tiles and units", async (t) => {
  const place = makeWorkplace(t);
  const pairs: [string, Partial<TrainSettings>][] = [
    ["clipped", { max_grad_norm: 0.5, gradient_accumulation_steps: 2, ...ROUTER }],
    ["adalomo", { optimizer: "adalomo", max_block_grad_norm: 0.1, seed: 7 }],
    ["muon", { optimizer: "muon", max_grad_norm: 0.5 }],
    ["adamw8bit", { optimizer: "adamw8bit" }],
    ["units", { blocks_per_step: 2, gradient_accumulation_steps: 3 }],
    ["tiles", { tile_tokens: 16, packing: false, gradient_accumulation_steps: 2 }],
    ["tiles of units", { tile_tokens: 16, packing: false, blocks_per_step: 2, gradient_accumulation_steps: 2 }],
    ["checkpoint", { method: "checkpoint", coupling: "ordinary", freeze: ["lm_head.weight"] }],
  ];
  await checkNear(
    place,
    pairs.map(([name, changes]) => pairFor(place, name, { ...ROWS, ...changes })),
  );
});

test("other families", async (t) => {
  const places = ["gptoss-plain", "deepseek3-moonlight", "qwen35-plain", "glm4-plain", "hf-tied", "granite-tied"].map(
    (golden) => makeWorkplace(t, golden),
  );
  const changes = { ...ROWS, max_steps: 2, max_grad_norm: 0.5, router_aux_loss_coef: 0.05 };
  await checkNear(
    places[0],
    places.map((place, i) => pairFor(place, `family ${i}`, changes)),
  );
});

test("three ranks, more than there are micro-batches at the end of an epoch", async (t) => {
  const place = makeWorkplace(t);
  await checkNear(place, [pairFor(place, "three", { ...ROWS, max_grad_norm: 0.5, ...ROUTER })], 3);
});
