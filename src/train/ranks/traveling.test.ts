// Runs of ranks whose experts stay where they are, while rows of tokens go there and back: one process's numbers but for the last places, the same every
// time, whatever the family and the optimizer.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";
import { type Pair, pairFor } from "./testing-pairs.js";
import { makeLargerWorkplace } from "./testing-larger.js";
import { blankFirst, trainOnRanks } from "./testing-ranks.js";

const ROWS = { parameters: "sharded", share_experts: "rows", max_steps: 3 } as const;
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
  const cases = pairs.map(({ two: settings, blank }) => ({ settings, blank }));
  const again = cases.map((each) => ({
    ...each,
    settings: { ...each.settings, output_dir: `${each.settings.output_dir}-again` },
  }));
  const saw = await trainOnRanks(place.folder, world, [...cases, ...again]);
  for (const [i, { name, one, two, blank }] of pairs.entries()) {
    const { failure, steps, evals, outcome } = saw[0][i];
    assert.equal(failure, null, name);
    const micro = two.gradient_accumulation_steps * world;
    const alone = await runTraining(
      { ...one, share_experts: "weights", gradient_accumulation_steps: micro },
      { look: blank ? blankFirst : undefined },
    );
    assert.equal(steps.length, alone.steps.length);
    for (const [at, { evalLoss }] of alone.evals.entries())
      assertNear(evals[at].evalLoss, evalLoss, EARLY, `${name}: held-out loss`);
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

test("two ranks have one process's numbers; what evaluates them brings weights", async (t) => {
  const place = makeWorkplace(t);
  const held = { validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 };
  await checkNear(place, [pairFor(place, "plain", { ...ROWS, ...held })]);
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
    ["files", { parameters: "sharded-disk", optimizer: "adamw8bit" }],
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

test("phases, a teacher and corrections of the router's choice", async (t) => {
  const place = makeWorkplace(t);
  const corrected = makeWorkplace(t, "deepseek3-moonlight");
  await checkNear(place, [
    pairFor(place, "adapters", { ...ROWS, coupling: "revffn", adapter_steps: 2, max_grad_norm: 0.5, optimizer: "sgd" }),
    pairFor(place, "teacher", { ...ROWS, distill_steps: 2 }),
    pairFor(corrected, "corrected", { ...ROWS, router_bias_update_rate: 0.01, optimizer: "sgd" }),
    pairFor(place, "frozen", { ...ROWS, freeze_router: true, freeze: ["*experts*"], optimizer: "lion" }),
    pairFor(place, "rounded", { ...ROWS, weights_dtype: "bfloat16", weights_correction: "8bit", max_steps: 2 }),
  ]);
});

test("gradients rebuilt from outputs are those of inputs that were kept, and of an inverse by iteration", async (t) => {
  const place = makeWorkplace(t);
  const settings = (name: string, changes: Partial<TrainSettings>) =>
    settingsFor(place, {
      ...ROWS,
      max_steps: 3,
      gradient_accumulation_steps: 2,
      ...ROUTER,
      ...changes,
      output_dir: place.out(name),
    });
  const cases = [settings("rebuilt", {}), settings("kept", { method: "checkpoint" })];
  const saw = await trainOnRanks(
    place.folder,
    2,
    cases.map((each) => ({ settings: each })),
  );
  for (const { failure } of saw.flat()) assert.equal(failure, null);
  const [rebuilt, kept] = saw[0].map(({ outcome }) => weightsOf(outcome.folder));
  assert.ok(rebuilt.equals(kept));
  const iterated = { coupling: "revffn", max_steps: 2, gradient_accumulation_steps: 2 } as const;
  await checkNear(place, [pairFor(place, "iterated", { ...ROWS, ...iterated })]);
});

test("bad values of one rank in a block are heard by all on the way back, with experts and without", async (t) => {
  const place = makeLargerWorkplace(t, { mlp_only_layers: [0, 1, 2, 3] });
  const settings = settingsFor(place, { ...ROWS, init_weights: "random", on_nonfinite: "stop" });
  const at = [2, 6];
  const saw = await trainOnRanks(
    place.folder,
    2,
    at.map((spoiltBack) => ({
      settings: { ...settings, output_dir: place.out(`back-${spoiltBack}`) },
      ...{ spoiltBack, fails: true },
    })),
  );
  for (const { failure } of saw.flat()) assert.match(failure ?? "", /^step 1: rank 1: a value is spoilt/);
});

test("where there are no experts it is refused", async (t) => {
  const dense = makeLargerWorkplace(t, { mlp_only_layers: [0, 1, 2, 3, 4, 5, 6, 7] });
  const settings = settingsFor(dense, { ...ROWS, init_weights: "random" });
  const [[{ failure }]] = await trainOnRanks(dense.folder, 2, [{ settings, fails: true }]);
  assert.match(failure ?? "", /^share_experts: rows has no effect: no layer of .* has experts\. Remove it\.$/);
});

test("experts without a token, and a rank without one that is trained", async (t) => {
  const place = makeWorkplace(t);
  const texts = Array.from({ length: 14 }, (_, i) => (i % 2 === 0 ? "A" : "The sum of all is more.".slice(0, 2 + i)));
  writeFileSync(place.rows, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  const short = { ...ROWS, packing: false, shuffle: false, max_grad_norm: 1, ...ROUTER };
  await checkNear(place, [{ ...pairFor(place, "short", short), blank: true }]);
});

test("what is saved goes on with other numbers of ranks, and where weights are brought", async (t) => {
  const place = makeWorkplace(t);
  // Six micro-batches a step.
  const of = (ranks: number, out: string, changes: Partial<TrainSettings> = {}): TrainSettings =>
    settingsFor(place, {
      ...{ ...ROWS, max_steps: 6, save_steps: 3, optimizer: "adamw8bit", gradient_accumulation_steps: 6 / ranks },
      ...{ output_dir: place.out(out), ...changes },
    });
  const [first] = await trainOnRanks(place.folder, 2, [
    { settings: of(2, "two"), stopAt: 4 },
    { settings: of(2, "whole") },
  ]);
  const resume = join(place.out("two"), "checkpoint-4");
  const [again] = await trainOnRanks(place.folder, 2, [
    { settings: of(2, "again", { resume }) },
    { settings: of(2, "brought", { resume, share_experts: "weights" }) },
  ]);
  const [three] = await trainOnRanks(place.folder, 3, [{ settings: of(3, "three", { resume }) }]);
  const alone = await runTraining(of(1, "alone", { resume, parameters: "device", share_experts: "weights" }));
  for (const { failure } of [...first, ...again, ...three]) assert.equal(failure, null);
  assert.ok(weightsOf(again[0].outcome.folder).equals(weightsOf(first[1].outcome.folder)));
  for (const { steps } of [again[1], three[0], alone])
    for (const [i, { loss }] of steps.entries()) assertNear(loss, again[0].steps[i].loss, i, "resumed");
});

test("bad values: all leave the batch out, or go back; of one rank alone, all hear", async (t) => {
  const place = makeWorkplace(t);
  const constant = { ...ROWS, max_steps: 6, save_steps: 2, lr_scheduler_type: "constant", packing: false } as const;
  const of = (name: string, changes: Partial<TrainSettings>) =>
    settingsFor(place, { ...constant, ...changes, output_dir: place.out(name) });
  const saw = await trainOnRanks(place.folder, 2, [
    { settings: of("back", { on_nonfinite: "rollback", optimizer: "adamw8bit" }), poisoned: true },
    { settings: of("skip", { on_nonfinite: "skip", max_grad_norm: 0.5 }), poisoned: true },
    { settings: of("bad", { on_nonfinite: "stop", learning_rate: 1e30 }), fails: true },
    { settings: of("one", { on_nonfinite: "stop" }), spoiltBlock: 3, fails: true },
  ]);
  for (const cases of saw) {
    for (const { failure, messages } of cases.slice(0, 2)) {
      assert.equal(failure, null);
      assert.match(messages.join("\n"), /(Back to \S+|Nothing was changed)/);
    }
    assert.match(cases[2].failure ?? "", /^step 2: rank \d: .*The end of step 1 is saved/);
    assert.match(cases[3].failure ?? "", /^step 1: rank 1: a value is spoilt/);
  }
});
