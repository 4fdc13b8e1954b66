// Ranks whose shares of weights and state lie in files: the bits of one process that has all in memory, files of this run alone, and nothing of them
// left behind its end.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { listCheckpoints } from "../../checkpoint/run/checkpoints.js";
import type { TrainSettings } from "../settings/settings.js";
import { checkPairs, pairFor } from "./testing-pairs.js";
import { trainOnRanks } from "./testing-ranks.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../testing-run.js";

const ON_DISK = { parameters: "sharded-disk" } as const;
const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };

const leftIn = (folder: string): string[] => readdirSync(folder).filter((name) => name.startsWith("working"));

test("two ranks with shares on disk have the bits of one process in memory", async (t) => {
  const place = makeWorkplace(t);
  const pairs = [
    pairFor(place, "plain", { ...ON_DISK, validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 }),
    pairFor(place, "clipped", { ...ON_DISK, max_grad_norm: 0.5, gradient_accumulation_steps: 2, ...ROUTER }),
    pairFor(place, "rounded", {
      ...ON_DISK,
      optimizer: "adalomo",
      weights_dtype: "bfloat16",
      max_block_grad_norm: 0.1,
    }),
    pairFor(place, "adamw8bit", { ...ON_DISK, optimizer: "adamw8bit", blocks_per_step: 2, save_steps: 2 }),
    pairFor(place, "muon", { ...ON_DISK, optimizer: "muon", max_grad_norm: 0.5 }),
    pairFor(place, "phases", { ...ON_DISK, coupling: "revffn", adapter_steps: 2, freeze: ["lm_head.weight"] }),
  ];
  await checkPairs(place, pairs);
  for (const { two } of pairs) assert.deepEqual(leftIn(two.output_dir), []);
});

test("three ranks, more than there are micro-batches at the end of an epoch", async (t) => {
  const place = makeWorkplace(t);
  const pair = pairFor(place, "three", { ...ON_DISK, max_grad_norm: 0.5, ...ROUTER });
  await checkPairs(place, [{ ...pair, one: { ...pair.one, gradient_accumulation_steps: 3 } }], 3);
});

test("the same in other families, and where the head is the embedding", async (t) => {
  const places = ["gptoss-plain", "deepseek3-moonlight", "qwen35-plain", "glm4-plain", "hf-tied"].map((golden) =>
    makeWorkplace(t, golden),
  );
  const changes = { ...ON_DISK, max_steps: 2, max_grad_norm: 0.5, router_aux_loss_coef: 0.05 };
  await checkPairs(
    places[0],
    places.map((place) => pairFor(place, "family", changes)),
  );
});

test("bad values: all leave the batch out, or go back, as one process does", async (t) => {
  const place = makeWorkplace(t);
  const constant = { ...ON_DISK, max_steps: 6, save_steps: 2, lr_scheduler_type: "constant", packing: false } as const;
  const pairs = [
    pairFor(place, "back", { ...constant, on_nonfinite: "rollback", optimizer: "adamw8bit" }),
    pairFor(place, "skip", { ...constant, on_nonfinite: "skip", max_grad_norm: 0.5 }),
  ];
  const { saw } = await checkPairs(
    place,
    pairs.map((pair) => ({ ...pair, poisoned: true })),
  );
  for (const ran of saw[0]) assert.match(ran.messages.join("\n"), /(Back to \S+|Nothing was changed)/);
});

test("a run goes on with other numbers of ranks and in memory, and takes no file that is not its own", async (t) => {
  const place = makeWorkplace(t);
  const { one: whole } = pairFor(place, "whole", {
    ...{ max_steps: 6, save_steps: 3, weights_dtype: "bfloat16", optimizer: "adamw8bit" },
    ...ROUTER,
  });
  // Six micro-batches a step.
  const of = (ranks: number, out: string, resume = "", parameters?: TrainSettings["parameters"]): TrainSettings => ({
    ...whole,
    gradient_accumulation_steps: 6 / ranks,
    parameters: parameters ?? (ranks > 1 ? "sharded-disk" : "device"),
    output_dir: place.out(out),
    resume,
    overwrite_output_dir: false,
  });
  /** What a rank that was killed leaves, of this run or of another one: nothing may be read of it. */
  const leave = (out: string, rank: number): void => {
    const folder = join(place.out(out), `working-rank-${rank}`);
    mkdirSync(folder, { recursive: true });
    for (const file of ["block-000.safetensors", "block-000-state.safetensors", "head.safetensors", "undo.log"])
      writeFileSync(join(folder, file), "not these");
  };
  const ran = await runTraining(of(1, "whole"));
  const [first] = await trainOnRanks(place.folder, 2, [{ settings: of(2, "two"), stopAt: 4 }]);
  assert.equal(first[0].failure, null);
  assert.deepEqual([listCheckpoints(place.out("two")), leftIn(place.out("two"))], [[3, 4], []]);
  const from = join(place.out("two"), "checkpoint-4");
  const alone = await runTraining(of(1, "alone", from));
  const saw = await trainOnRanks(place.folder, 3, [
    { settings: of(3, "memory", from, "sharded") },
    { settings: of(3, "three", from) },
  ]);
  for (const rank of [1, 2, 5]) leave("two", rank);
  const [again] = await trainOnRanks(place.folder, 3, [{ settings: of(3, "two", "latest") }]);
  for (const rank of [0, 4]) leave("two", rank);
  const replaced = { ...of(2, "two"), overwrite_output_dir: true };
  const [anew] = await trainOnRanks(place.folder, 2, [{ settings: replaced }]);
  const all = [...saw[0], again[0], anew[0]];
  assert.deepEqual(
    all.map(({ failure }) => failure),
    [null, null, null, null],
  );
  for (const { outcome } of [alone, ...all])
    assert.ok(weightsOf(outcome.folder).equals(weightsOf(ran.outcome.folder)), outcome.folder);
  for (const out of ["memory", "three", "two"]) assert.deepEqual(leftIn(place.out(out)), [], out);
  assert.ok(!existsSync(join(place.out("two"), "working")));
});

test("what is said where shares on disk cannot be", async (t) => {
  const place = makeWorkplace(t);
  await assert.rejects(
    runTraining(settingsFor(place, ON_DISK)),
    /^UserError: parameters: sharded-disk shares them out over several ranks, and one process trains here\..* set parameters to disk\./,
  );
  assert.throws(
    () => settingsFor(place, { ...ON_DISK, durability: "step" }),
    /durability step is of one process: with --parameters sharded-disk ranks go on from checkpoints/,
  );
});
