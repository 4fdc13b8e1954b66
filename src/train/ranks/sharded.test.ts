// Runs of ranks that share weights and state: the bits of one process with the same micro-batches, whatever the optimizer, and what is saved is whole
// and goes on with any number of ranks.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { listCheckpoints, OPTIMIZER_FILE } from "../../checkpoint/run/checkpoints.js";
import type { TrainSettings } from "../settings/settings.js";
import { checkPairs, pairFor } from "./testing-pairs.js";
import { trainOnRanks } from "./testing-ranks.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../testing-run.js";

const SHARDED = { parameters: "sharded" } as const;
const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };

test("two ranks have the bits of one process, with every optimizer", async (t) => {
  const place = makeWorkplace(t);
  await checkPairs(place, [
    pairFor(place, "plain", { ...SHARDED, validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 }),
    pairFor(place, "clipped", { ...SHARDED, max_grad_norm: 0.5, gradient_accumulation_steps: 2, ...ROUTER }),
    pairFor(place, "rounded", {
      ...SHARDED,
      ...{ optimizer: "adalomo", weights_dtype: "bfloat16", max_block_grad_norm: 0.1, seed: 7 },
    }),
    pairFor(place, "corrected", { ...SHARDED, weights_dtype: "bfloat16", weights_correction: "8bit" }),
    pairFor(place, "adafactor", { ...SHARDED, optimizer: "adafactor", adafactor_scale_parameter: true }),
    pairFor(place, "adamw8bit", { ...SHARDED, optimizer: "adamw8bit" }),
    pairFor(place, "muon", { ...SHARDED, optimizer: "muon", max_grad_norm: 0.5 }),
    pairFor(place, "galore", { ...SHARDED, optimizer: "galore_adamw", galore_rank: 8, galore_update_gap: 2 }),
    pairFor(place, "units", { ...SHARDED, blocks_per_step: 2, gradient_accumulation_steps: 3 }),
    pairFor(place, "checkpoint", {
      ...SHARDED,
      method: "checkpoint",
      coupling: "ordinary",
      freeze: ["lm_head.weight"],
    }),
  ]);
});

test("three ranks, more than there are micro-batches at the end of an epoch", async (t) => {
  const place = makeWorkplace(t);
  const three = (name: string, changes: Partial<TrainSettings>) => {
    const pair = pairFor(place, name, { ...SHARDED, max_grad_norm: 0.5, ...ROUTER, ...changes });
    return { ...pair, one: { ...pair.one, gradient_accumulation_steps: 3 } };
  };
  await checkPairs(
    place,
    [
      three("adamw", { validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 }),
      three("muon", { optimizer: "muon" }),
    ],
    3,
  );
});

test("the same in other families, and where the head is the embedding", async (t) => {
  const places = [
    "gptoss-plain",
    "deepseek3-moonlight",
    "qwen35-plain",
    "glm4-plain",
    "hf-tied",
    "granite-tied",
    "gptoss-mxfp4",
  ].map((golden) => makeWorkplace(t, golden));
  const changes = { ...SHARDED, max_steps: 2, max_grad_norm: 0.5, router_aux_loss_coef: 0.05 };
  await checkPairs(places[0], [
    ...places.map((place) => pairFor(place, "family", changes)),
    ...places.map((place) => pairFor(place, "factored", { ...changes, optimizer: "adalomo", max_grad_norm: 0 })),
  ]);
});

test("phases, a teacher and corrections of the router's choice", async (t) => {
  const place = makeWorkplace(t);
  const corrected = makeWorkplace(t, "deepseek3-moonlight");
  await checkPairs(place, [
    pairFor(place, "adapters", { ...SHARDED, coupling: "revffn", adapter_steps: 2, max_grad_norm: 0.5 }),
    pairFor(place, "teacher", { ...SHARDED, distill_steps: 2 }),
    pairFor(corrected, "corrected", { ...SHARDED, router_bias_update_rate: 0.01, optimizer: "lion" }),
    pairFor(corrected, "random", { ...SHARDED, init_weights: "random", optimizer: "sgd" }),
  ]);
});

test("experts without a token, and a rank without one that is trained", async (t) => {
  const place = makeWorkplace(t);
  const texts = Array.from({ length: 14 }, (_, i) => (i % 2 === 0 ? "A" : "The sum of all is more.".slice(0, 2 + i)));
  writeFileSync(place.rows, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  const short = { ...SHARDED, packing: false, shuffle: false, max_grad_norm: 1, ...ROUTER };
  const { saw } = await checkPairs(place, [{ ...pairFor(place, "short", short), blank: true }]);
  assert.deepEqual(saw[0][0].ownTokens, [0, 0, 0, 0, 0]);
});

test("what two ranks save goes on with one and with three, and the other way, with the same bits", async (t) => {
  const place = makeWorkplace(t);
  const { one: whole } = pairFor(place, "whole", {
    ...{ max_steps: 6, save_steps: 3, weights_dtype: "bfloat16", optimizer: "adamw8bit" },
    ...ROUTER,
  });
  // Six micro-batches a step.
  const of = (ranks: number, out: string, resume = ""): TrainSettings => ({
    ...whole,
    gradient_accumulation_steps: 6 / ranks,
    parameters: ranks > 1 ? "sharded" : "device",
    output_dir: place.out(out),
    resume,
    overwrite_output_dir: resume === "",
  });
  const ran = await runTraining(of(1, "whole"));
  const [first] = await trainOnRanks(place.folder, 2, [
    { settings: of(2, "two"), stopAt: 4 },
    { settings: of(2, "both") },
  ]);
  assert.deepEqual(
    first.map(({ failure }) => failure),
    [null, null],
  );
  assert.deepEqual(listCheckpoints(place.out("two")), [3, 4]);
  const files = (run: string): Buffer[] => {
    const folder = join(place.out(run), "checkpoint-3");
    return [weightsOf(folder), readFileSync(join(folder, OPTIMIZER_FILE))];
  };
  for (const run of ["two", "both"]) assert.deepEqual(files(run), files("whole"), run);
  const from = join(place.out("two"), "checkpoint-4");
  const alone = await runTraining(of(1, "alone", from));
  const saw = await trainOnRanks(place.folder, 3, [{ settings: of(3, "three", from) }]);
  assert.equal(saw[0][0].failure, null);
  for (const folder of [first[1].outcome.folder, alone.outcome.folder, saw[0][0].outcome.folder])
    assert.ok(weightsOf(folder).equals(weightsOf(ran.outcome.folder)), folder);
});

test("all ranks write the samples that one process does", async (t) => {
  const place = makeWorkplace(t);
  const prompts = { sample_prompts: ["The sum, of 3", "12"], sample_steps: 2, sample_tokens: 9, max_steps: 3 };
  const pairs = [
    pairFor(place, "samples", { ...SHARDED, ...prompts }),
    pairFor(place, "files", { ...prompts, parameters: "sharded-disk", coupling: "bdia" }),
    pairFor(place, "whole", prompts),
  ];
  const { one, saw } = await checkPairs(place, pairs);
  for (const [i, { events }] of one.entries()) {
    const wanted = events.filter(({ kind }) => kind === "sample");
    assert.equal(wanted.length, 6);
    for (const [rank, cases] of saw.entries())
      assert.deepEqual(cases[i].samples, rank > 0 && pairs[i].name === "whole" ? [] : wanted, pairs[i].name);
  }
});

test("bad values: all leave the batch out, or go back, as one process does", async (t) => {
  const place = makeWorkplace(t);
  const constant = { ...SHARDED, max_steps: 6, save_steps: 2, lr_scheduler_type: "constant", packing: false } as const;
  const pairs = [
    pairFor(place, "back", { ...constant, on_nonfinite: "rollback", optimizer: "adamw8bit" }),
    pairFor(place, "anew", { ...constant, on_nonfinite: "rollback", save_steps: 0 }),
    pairFor(place, "skip", { ...constant, on_nonfinite: "skip", max_grad_norm: 0.5 }),
  ];
  const { saw } = await checkPairs(
    place,
    pairs.map((pair) => ({ ...pair, poisoned: true })),
  );
  for (const ran of saw[0]) assert.match(ran.messages.join("\n"), /(Back to \S+|Nothing was changed)/);
});

test("what is said where ranks that share cannot train", async (t) => {
  const place = makeWorkplace(t);
  const alone = settingsFor(place, SHARDED);
  await assert.rejects(
    runTraining(alone),
    /^UserError: parameters: sharded shares them out over several ranks, and one process trains here\./,
  );
  const saw = await trainOnRanks(place.folder, 2, [
    {
      settings: settingsFor(place, {
        ...SHARDED,
        learning_rate: 1e30,
        on_nonfinite: "stop",
        output_dir: place.out("bad"),
      }),
      fails: true,
    },
    {
      settings: settingsFor(place, { ...SHARDED, expert_group_size: 2, output_dir: place.out("groups") }),
      fails: true,
    },
  ]);
  for (const cases of saw) {
    assert.match(cases[0].failure ?? "", /^step 2: rank \d: .*The end of step 1 is saved/);
    assert.match(cases[1].failure ?? "", /^expert_group_size: 2 is for one process, and 2 ranks train here/);
  }
});
