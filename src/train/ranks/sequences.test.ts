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
  max_steps: 3,
  sequence_ranks: 2,
  ...changes,
});

interface Case {
  name: string;
  place: Workplace;
  changes: Partial<TrainSettings>;
}

function assertNear(actual: number | null, expected: number | null, where: string): void {
  if (expected === null || actual === null) return assert.equal(actual, expected, where);
  assert.ok(Math.abs(actual - expected) <= NEAR * Math.abs(expected), `${where}: ${actual}, expected ${expected}`);
}

function assertSteps(actual: StepRecord[], expected: StepRecord[], where: string): void {
  assert.equal(actual.length, expected.length, where);
  for (const [i, { loss, gradNorm, trainedTokens, auxLoss, zLoss, expertLoad }] of expected.entries()) {
    const step = actual[i];
    const at = `${where}, step ${i + 1}`;
    assertNear(step.loss, loss, `${at}, loss`);
    assertNear(step.gradNorm, gradNorm, `${at}, norm`);
    assertNear(step.auxLoss, auxLoss, `${at}, aux`);
    assertNear(step.zLoss, zLoss, `${at}, z`);
    assert.equal(step.trainedTokens, trainedTokens, at);
    assert.deepEqual(step.expertLoad, expertLoad, at);
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
  for (const [i, { name, place, changes }] of cases.entries()) {
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
      assertSteps(ran[i].steps, alone.steps, where);
      assert.deepEqual(
        ran[i].evals.map(({ evalLoss }) => evalLoss),
        saw[0][i].evals.map(({ evalLoss }) => evalLoss),
      );
      for (const [at, { evalLoss }] of alone.evals.entries())
        assertNear(ran[i].evals[at].evalLoss, evalLoss, `${where}, held out`);
    }
  }
}

test("families", async (t) => {
  const names = process.env.FAMS?.split(",") ?? [
    "hf-tiny",
    "gptoss-plain",
    "deepseek3-moonlight",
    "qwen35-plain",
    "next-plain",
    "glm4-plain",
    "olmoe-plain",
  ];
  const cases = names.map((golden) => ({
    name: golden,
    place: makeWorkplace(t, golden),
    changes: { max_grad_norm: 0.5, router_aux_loss_coef: 0.05 },
  }));
  await compare(cases[0].place.folder, 2, cases);
});
void writeFileSync;
void weightsOf;
