// Sums of gradients that each rank makes by itself: the same bits every time and wherever weights lie, one process's numbers but for their last
// places, and as many bytes of memory and on the way as planned.
import assert from "node:assert/strict";
import { test } from "node:test";

import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../testing-run.js";
import type { Run } from "../prepare.js";
import type { TrainSettings } from "../settings/settings.js";
import { pairFor } from "./testing-pairs.js";
import { type RankSaw, trainOnRanks } from "./testing-ranks.js";

const DIRECT = { rank_sums: "direct", max_steps: 3 } as const;
const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01 };

const weightsIn = ({ outcome }: RankSaw): Buffer => weightsOf(outcome.folder);

function assertNear(actual: number, expected: number, where: string): void {
  assert.ok(Math.abs(actual - expected) <= 2e-4 * Math.abs(expected), `${where}: ${actual}, expected ${expected}`);
}

test("sums in any order are one process's but for the last places, the same everywhere and every time", async (t) => {
  const place = makeWorkplace(t);
  const tied = makeWorkplace(t, "hf-tied");
  const pairs = [
    pairFor(place, "plain", { ...DIRECT }),
    pairFor(place, "clipped", { ...DIRECT, max_grad_norm: 0.5, gradient_accumulation_steps: 2, ...ROUTER }),
    pairFor(tied, "tied", { ...DIRECT, optimizer: "adafactor", max_grad_norm: 0.5 }),
    pairFor(place, "blocks", { ...DIRECT, method: "checkpoint", coupling: "ordinary", max_block_grad_norm: 0.1 }),
  ];
  const again = (name: string, changes: Partial<TrainSettings>) =>
    pairs.map(({ two }, i) => ({ settings: { ...two, ...changes, output_dir: place.out(`${name}-${i}`) } }));
  for (const world of [2, 3]) {
    const cases = [...again("first", {}), ...again("second", {}), ...again("shared", { parameters: "sharded" })];
    const saw = await trainOnRanks(place.folder, world, cases);
    for (const ran of saw) for (const { failure } of ran) assert.equal(failure, null);
    for (const [i, { name, one }] of pairs.entries()) {
      const where = `${name}, ${world} ranks`;
      const [first, second, shared] = [0, 1, 2].map((round) => saw[0][round * pairs.length + i]);
      const micro = (one.gradient_accumulation_steps / 2) * world;
      const alone = await runTraining({ ...one, rank_sums: "ordered", gradient_accumulation_steps: micro });
      for (const [step, { loss, gradNorm, trainedTokens }] of alone.steps.entries()) {
        assert.equal(first.steps[step].trainedTokens, trainedTokens);
        assertNear(first.steps[step].loss, loss, `${where}, loss of step ${step}`);
        assertNear(first.steps[step].gradNorm, gradNorm, `${where}, norm of step ${step}`);
      }
      assert.deepEqual(
        first.steps.map(({ loss }) => loss),
        second.steps.map(({ loss }) => loss),
        where,
      );
      assert.ok(weightsIn(first).equals(weightsIn(second)), where);
      // Norms of shares are added otherwise than of all, and only they.
      if (one.max_grad_norm === 0 && one.max_block_grad_norm === 0)
        assert.ok(weightsIn(first).equals(weightsIn(shared)), where);
      else assertNear(shared.steps.at(-1)!.loss, first.steps.at(-1)!.loss, `${where}, shared`);
    }
  }
});

test("experts without a token, and a rank without one that is trained", async (t) => {
  const place = makeWorkplace(t);
  const short = settingsFor(place, { ...DIRECT, packing: false, max_grad_norm: 1 });
  const saw = await trainOnRanks(place.folder, 2, [{ settings: short, blank: true }]);
  assert.deepEqual(saw[0][0].ownTokens, [0, 0, 0]);
  for (const [{ failure, steps }] of saw) {
    assert.equal(failure, null);
    assert.deepEqual(
      steps.map(({ loss }) => loss),
      saw[0][0].steps.map(({ loss }) => loss),
    );
  }
});

test("in one process there is nothing to add up, which is said", async (t) => {
  const settings = settingsFor(makeWorkplace(t), { ...DIRECT, max_steps: 1 });
  const look = ({ notes }: Run): void =>
    assert.ok(notes.includes("rank_sums direct has no effect: one process trains"), notes.join("\n"));
  await runTraining(settings, { look });
});
