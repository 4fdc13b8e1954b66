// Runs of two ranks: the bits of one process with the same micro-batches, whatever is summed over them; and what becomes of a run when a rank is
// asked to stop, or goes.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { listCheckpoints } from "../../checkpoint/run/state.js";
import type { TrainSettings } from "../settings/settings.js";
import { checkPairs, pairFor } from "./testing-pairs.js";
import { trainOnRanks } from "./testing-ranks.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../testing-run.js";

const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };

test("two ranks have the bits of one process with the same micro-batches", async (t) => {
  const place = makeWorkplace(t);
  const { saw } = await checkPairs(place, [
    pairFor(place, "plain", { validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 }),
    pairFor(place, "clipped", { max_grad_norm: 0.5, gradient_accumulation_steps: 2, ...ROUTER }),
    pairFor(place, "adafactor", { optimizer: "adafactor", router_aux_loss_coef: 0.05, router_aux_loss_type: "layer" }),
    pairFor(place, "units", { blocks_per_step: 3, gradient_accumulation_steps: 3 }),
    pairFor(place, "graphs", { method: "store", coupling: "ordinary", max_grad_norm: 0.5 }),
    pairFor(place, "blocks", {
      max_block_grad_norm: 0.1,
      weights_dtype: "bfloat16",
      seed: 7,
      freeze: ["lm_head.weight"],
    }),
  ]);
  // An epoch has seven micro-batches: the last step of one leaves a rank without any.
  assert.ok(saw.some((cases) => cases.some(({ ownTokens }) => ownTokens.includes(0))));
});

test("a head that is the embedding is added to at both ends of the network", async (t) => {
  const place = makeWorkplace(t, "hf-tied");
  await checkPairs(place, [
    pairFor(place, "once", {}),
    pairFor(place, "twice", { gradient_accumulation_steps: 2, max_grad_norm: 0.5 }),
  ]);
});

test("the same in other families", async (t) => {
  const places = ["gptoss-plain", "deepseek3-moonlight", "qwen35-plain", "glm4-plain"].map((golden) =>
    makeWorkplace(t, golden),
  );
  const clipped = { max_steps: 2, max_grad_norm: 0.5, router_aux_loss_coef: 0.05 };
  await checkPairs(
    places[0],
    places.map((place) => pairFor(place, "family", clipped)),
  );
});

test("experts without a token, and a rank without one that is trained", async (t) => {
  const place = makeWorkplace(t);
  const texts = Array.from({ length: 14 }, (_, i) => (i % 2 === 0 ? "A" : "The sum of all is more.".slice(0, 2 + i)));
  writeFileSync(place.rows, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  const short = { packing: false, shuffle: false, max_grad_norm: 1, ...ROUTER };
  const pair = { ...pairFor(place, "short", short), blank: true };
  const { one, saw } = await checkPairs(place, [pair]);
  assert.deepEqual(saw[0][0].ownTokens, [0, 0, 0, 0, 0]);
  assert.ok(one[0].steps.some(({ expertLoad }) => expertLoad.some(({ dead }) => dead > 0)));
});

test("three ranks, more than there are micro-batches at the end of an epoch", async (t) => {
  const place = makeWorkplace(t);
  const pair = pairFor(place, "three", { max_grad_norm: 0.5, ...ROUTER });
  await checkPairs(place, [{ ...pair, one: { ...pair.one, gradient_accumulation_steps: 3 } }], 3);
});

test("a run goes on with another number of ranks", async (t) => {
  const place = makeWorkplace(t);
  const { one: whole, two } = pairFor(place, "whole", {
    max_steps: 6,
    save_steps: 3,
    gradient_accumulation_steps: 1,
    ...ROUTER,
  });
  const goingOn = (settings: TrainSettings): TrainSettings => ({
    ...settings,
    overwrite_output_dir: false,
    resume: "latest",
  });
  const outA = place.out("one-then-two");
  const outB = place.out("two-then-one");
  const ran = await runTraining(whole);
  await runTraining({ ...whole, output_dir: outA }, { stopAt: 2 });
  // Rank 1 is asked to stop, and all do.
  const saw = await trainOnRanks(place.folder, 2, [
    { settings: goingOn({ ...two, output_dir: outA }) },
    { settings: { ...two, output_dir: outB }, stopAt: 4 },
  ]);
  assert.deepEqual(
    saw.map(([, { outcome }]) => [outcome.stopped, outcome.steps]),
    [
      [true, 4],
      [true, 4],
    ],
  );
  assert.deepEqual(
    saw.map(([first]) => first.failure),
    [null, null],
  );
  assert.deepEqual(listCheckpoints(outB), [3, 4]);
  const resumed = await runTraining(goingOn({ ...whole, output_dir: outB }));
  for (const folder of [saw[0][0].outcome.folder, resumed.outcome.folder])
    assert.ok(weightsOf(folder).equals(weightsOf(ran.outcome.folder)), folder);
});

test("what several ranks cannot do is said by all", async (t) => {
  const place = makeWorkplace(t);
  const refused = settingsFor(place, { parameters: "disk", output_dir: place.out("disk") });
  const bad = settingsFor(place, { output_dir: place.out("bad") });
  writeFileSync(join(place.folder, "no-run"), "");
  const saw = await trainOnRanks(place.folder, 2, [
    { settings: refused, fails: true },
    { settings: { ...bad, output_dir: join(place.folder, "no-run") }, fails: true },
    { settings: { ...bad, learning_rate: 1e30, on_nonfinite: "stop" }, fails: true },
    { settings: settingsFor(place, { output_dir: place.out("astray") }), astray: true, fails: true },
  ]);
  for (const [rank, cases] of saw.entries()) {
    assert.match(cases[3].failure ?? "", /^rank \d of 2 is at step \d, and rank \d at step \d \(expected the same\)/);
    assert.match(cases[0].failure ?? "", /^parameters: disk is for one process, and 2 ranks train here/);
    assert.match(cases[1].failure ?? "", rank === 0 ? /^output_dir/ : /^rank 0: output_dir/);
    assert.match(
      cases[2].failure ?? "",
      /^step 2: rank \d: .*Its batch: \S+nonfinite-step-2.json. The end of step 1 is saved/,
    );
  }
});

test("bad values that one rank alone can see end the run, and keep nobody waiting", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { on_nonfinite: "skip" });
  await assert.rejects(
    trainOnRanks(place.folder, 2, [{ settings, spoilt: true }]),
    /\[rank 1\] .*a value is spoilt\. +One rank of 2 has met this alone, so the run ends\./,
  );
});
