// Ranks that hold each micro-batch together: the numbers of one process with the same micro-batches but for their last places, in every family and
// with every method; the same bits every time; and a rank that fails takes the others along.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";

import type { StepRecord } from "../../metrics/record.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";
import { trainOnRanks } from "./testing-ranks.js";

/** Relative, of float32 numbers that are added in another order. */
const NEAR = 1e-5;

const together = (changes: Partial<TrainSettings>): Partial<TrainSettings> => ({
  max_steps: 2,
  sequence_ranks: 2,
  ...changes,
});

interface Case {
  name: string;
  place: Workplace;
  changes: Partial<TrainSettings>;
  /** Relative; NEAR unless said otherwise. */
  near?: number;
  /** Experts get tokens that fill a micro-batch up, too. */
  isFilled?: boolean;
}

function assertNear(actual: number | null, expected: number | null, near: number, where: string): void {
  if (expected === null || actual === null) assert.equal(actual, expected, where);
  else assert.ok(Math.abs(actual - expected) <= near * Math.abs(expected), `${where}: ${actual}, expected ${expected}`);
}

function assertSteps(
  actual: StepRecord[],
  expected: StepRecord[],
  { near = NEAR, isFilled }: Case,
  where: string,
): void {
  assert.equal(actual.length, expected.length, where);
  for (const [i, { loss, gradNorm, trainedTokens, auxLoss, zLoss, expertLoad }] of expected.entries()) {
    const step = actual[i];
    const at = `${where}, step ${i + 1}`;
    assertNear(step.loss, loss, near, `${at}, loss`);
    assertNear(step.gradNorm, gradNorm, near, `${at}, norm`);
    assertNear(step.auxLoss, auxLoss, near, `${at}, aux`);
    assertNear(step.zLoss, zLoss, near, `${at}, z`);
    assert.equal(step.trainedTokens, trainedTokens, at);
    if (!isFilled) assert.deepEqual(step.expertLoad, expertLoad, at);
  }
}

/** Every case on so many ranks, and in one process with as many micro-batches a step. */
async function compare(folder: string, world: number, cases: Case[]): Promise<void> {
  const settings = cases.map(({ name, place, changes }) =>
    settingsFor(place, { ...together(changes), output_dir: place.out(`${name}-${world}`) }),
  );
  const saw = await trainOnRanks(
    folder,
    world,
    settings.map((each) => ({ settings: each })),
  );
  for (const [i, each] of cases.entries()) {
    const { name, place, changes, near = NEAR } = each;
    const { gradient_accumulation_steps: micro = 1, sequence_ranks: size = 2 } = changes;
    const one = settingsFor(place, {
      ...together(changes),
      ...{ sequence_ranks: 1, parameters: "device", gradient_accumulation_steps: (micro * world) / size },
      output_dir: place.out(`${name}-alone`),
    });
    const alone = await runTraining(one);
    for (const [rank, ran] of saw.entries()) {
      const where = `${name}, rank ${rank} of ${world}`;
      assert.equal(ran[i].failure, null, where);
      assertSteps(ran[i].steps, alone.steps, each, where);
      assert.deepEqual(
        ran[i].evals.map(({ evalLoss }) => evalLoss),
        saw[0][i].evals.map(({ evalLoss }) => evalLoss),
      );
      for (const [at, { evalLoss }] of alone.evals.entries())
        assertNear(ran[i].evals[at].evalLoss, evalLoss, near, `${where}, held out`);
    }
  }
}

test("attention by heads has the numbers of one process in every kind of it", async (t) => {
  // Sinks and windows, norms of heads, linear attention with a gate, norms of whole queries; biases, latents, grouped projections, part of a head turned.
  const ofBoth = ["gptoss-plain", "qwen3-window", "qwen35-plain", "olmoe-plain"];
  const goldens = [...ofBoth, "hf-tiny", "deepseek3-moonlight", "next-plain", "glm4-plain"];
  const changes = { max_grad_norm: 0.5, router_aux_loss_coef: 0.05 };
  const cases = goldens.map((golden) => ({ name: golden, place: makeWorkplace(t, golden), changes }));
  await compare(cases[0].place.folder, 2, cases);
  await compare(cases[0].place.folder, 4, cases.slice(0, ofBoth.length));
});

test("methods, couplings, tiles, noise and stores", async (t) => {
  const place = makeWorkplace(t);
  const tied = makeWorkplace(t, "hf-tied");
  const ofCase = (name: string, changes: Partial<TrainSettings>, where = place): Case => ({
    name,
    place: where,
    changes,
  });
  // Its inverse is as good as its iteration, which rounding moves.
  const halves = (name: string, changes: Partial<TrainSettings>): Case => ({
    ...ofCase(name, { coupling: "revffn", ...changes }),
    near: 1e-3,
  });
  const ofBoth = [
    ofCase("checkpoint", {
      method: "checkpoint",
      coupling: "ordinary",
      validation_rows: 2,
      per_device_eval_batch_size: 1,
    }),
    ofCase("units", { blocks_per_step: 3, gradient_accumulation_steps: 2 }),
    ofCase("tied", { parameters: "sharded", max_grad_norm: 0.5 }, tied),
  ];
  const cases = [
    ...ofBoth,
    ofCase("graphs", { method: "store", coupling: "ordinary", max_grad_norm: 0.5 }),
    ofCase("drawn", { coupling: "bdia" }),
    ofCase("additive", { coupling: "additive" }),
    halves("halves", { fixed_point_iterations: 5 }),
    halves("hints", { reconstruction: "stored_hint", adapter_sharing: "stream" }),
    halves("anderson", { fixed_point_anderson: true }),
    // Here the iteration does not converge: what is stored tells of the rest.
    ofCase("linear", { coupling: "revffn", method: "checkpoint" }, makeWorkplace(t, "qwen35-plain")),
    ofCase("tiles", { tile_tokens: 7, loss_tile_tokens: 5, router_jitter_noise: 0.05, router_z_loss_coef: 0.01 }),
    ofCase("taught", { distill_steps: 1, coupling: "additive", optimizer: "sgd" }),
    ofCase("shared", { parameters: "sharded", checkpoint_first_blocks: 1 }),
    ofCase("files", { parameters: "sharded-disk" }),
  ];
  await compare(place.folder, 2, cases);
  await compare(place.folder, 4, ofBoth);
});

test("documents of any length, cut anywhere, and fewer tokens than ranks", async (t) => {
  const place = makeWorkplace(t);
  const texts = Array.from({ length: 14 }, (_, i) =>
    i % 2 === 0 ? "A" : "The sum of all is more. ".repeat(3).slice(0, 2 + 3 * i),
  );
  writeFileSync(place.rows, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  const ofCase = (name: string, changes: Partial<TrainSettings>): Case => ({ name, place, changes });
  const rows = { packing: false, shuffle: false };
  // Of so few tokens, many gradients are as small as their rounding, of which AdamW makes whole steps.
  const filled = { ...rows, max_steps: 3, sequence_ranks: 4, optimizer: "sgd", router_z_loss_coef: 0.01 } as const;
  const cases = [
    ofCase("short", { ...rows, max_steps: 4 }),
    { ...ofCase("filled", filled), isFilled: true },
    { ...ofCase("filled, taught", { ...filled, distill_steps: 1, coupling: "additive" }), isFilled: true },
    ofCase("packed", { sequence_ranks: 4, max_grad_norm: 1 }),
    ofCase("several", { ...rows, per_device_train_batch_size: 3, sequence_ranks: 4, coupling: "additive" }),
  ];
  await compare(place.folder, 4, cases);
});

test("bad values that one rank meets in the forward pass are met by all, and the step is made with other batches", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...together({}), on_nonfinite: "skip" });
  for (const world of [2, 4]) {
    const saw = await trainOnRanks(place.folder, world, [{ settings, spoiltForward: true }]);
    for (const [{ failure, messages, steps }] of saw) {
      assert.equal(failure, null);
      assert.match(messages.join("\n"), /step 2: rank 1: a value is spoilt\. .*Nothing was changed/);
      assert.deepEqual(
        steps.map(({ loss }) => loss),
        saw[0][0].steps.map(({ loss }) => loss),
      );
    }
  }
});

test("the same bits every time", async (t) => {
  const place = makeWorkplace(t);
  const changes = together({ max_grad_norm: 0.5, router_aux_loss_coef: 0.05 });
  const cases = ["first", "second"].map((name) => ({
    settings: settingsFor(place, { ...changes, output_dir: place.out(name) }),
  }));
  const [[first, second]] = await trainOnRanks(place.folder, 4, cases);
  assert.deepEqual(
    first.steps.map(({ loss, gradNorm }) => [loss, gradNorm]),
    second.steps.map(({ loss, gradNorm }) => [loss, gradNorm]),
  );
  assert.ok(weightsOf(first.outcome.folder).equals(weightsOf(second.outcome.folder)));
});

test("rebuilt streams have the gradients of stored ones", async (t) => {
  const place = makeWorkplace(t);
  const methods = ["reversible", "checkpoint", "store"] as const;
  const cases = methods.map((method) => ({
    settings: settingsFor(place, { ...together({}), method, output_dir: place.out(method) }),
  }));
  const [all] = await trainOnRanks(place.folder, 2, cases);
  for (const { failure } of all) assert.equal(failure, null);
  const [rebuilt, ...stored] = all.map(({ outcome }) => weightsOf(outcome.folder));
  for (const [i, weights] of stored.entries()) assert.ok(weights.equals(rebuilt), methods[i + 1]);
});

test("a run goes on with other groups, and in one process", async (t) => {
  const place = makeWorkplace(t);
  const output_dir = place.out("moving");
  const course = { lr_scheduler_type: "constant", warmup_steps: 1, save_steps: 2 } as const;
  const upTo = (max_steps: number, changes: Partial<TrainSettings>): TrainSettings =>
    settingsFor(place, { ...course, max_steps, output_dir, ...changes });
  const goesOn = { overwrite_output_dir: false, resume: "latest" };
  const of = { name: "moving", place, changes: {} };
  const alone = await runTraining(upTo(6, { output_dir: place.out("alone") }));
  const [[first]] = await trainOnRanks(place.folder, 2, [{ settings: upTo(2, { sequence_ranks: 2 }) }]);
  const [[second]] = await trainOnRanks(place.folder, 4, [{ settings: upTo(4, { ...goesOn, sequence_ranks: 4 }) }]);
  const third = await runTraining(upTo(6, goesOn));
  assertSteps([...first.steps, ...second.steps, ...third.steps], alone.steps, { ...of, near: 1e-4 }, "moving");
});

test("what such ranks cannot do is said before the run", async (t) => {
  const place = makeWorkplace(t);
  const linear = makeWorkplace(t, "qwen35-plain");
  const refused = (where: Workplace, changes: Partial<TrainSettings>) => ({
    settings: settingsFor(where, changes),
    fails: true,
  });
  await assert.rejects(
    runTraining(settingsFor(place, together({}))),
    /^UserError: sequence_ranks: 2 hold each micro-batch together, and there are 1 in all \(expected a multiple of 2\)/,
  );
  assert.throws(
    () => settingsFor(place, together({ rank_sums: "ordered" })),
    /^UserError: --rank-sums ordered makes ranks wait .* --sequence-ranks 2 .*Remove rank_sums, or set it to direct/,
  );
  const saw = await trainOnRanks(place.folder, 3, [
    refused(place, { sequence_ranks: 2 }),
    refused(place, { sequence_ranks: 3 }),
  ]);
  const four = await trainOnRanks(place.folder, 4, [refused(linear, { sequence_ranks: 4 })]);
  for (const cases of saw) {
    assert.match(cases[0].failure ?? "", /^sequence_ranks: 2 hold .* there are 3 in all/);
    assert.match(
      cases[1].failure ?? "",
      /^sequence_ranks: 3 ranks cannot share out the heads of attention of .* \(expected 1, 2, 4\)/,
    );
  }
  for (const [{ failure }] of four) assert.match(failure ?? "", /^sequence_ranks: 4 ranks cannot .* \(expected 1, 2\)/);
});
