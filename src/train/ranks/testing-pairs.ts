// For tests of several ranks: the same work in one process and in several, which must see and leave the same bits.
import assert from "node:assert/strict";

import type { StepRecord } from "../../metrics/record.js";
import type { TrainSettings } from "../settings/settings.js";
import { type Ran, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";
import { blankFirst, poison, trainOnRanks } from "./testing-ranks.js";

const SAME = (step: StepRecord) => {
  const { loss, meanTokenAccuracy, gradNorm, trainedTokens, epoch, learningRate, reconstructionError } = step;
  const { expertLoad, auxLoss, zLoss, inverse } = step;
  return {
    ...{ loss, meanTokenAccuracy, gradNorm, trainedTokens, epoch, learningRate, reconstructionError },
    ...{ expertLoad, auxLoss, zLoss, inverse },
  };
};

/** Settings of one process, and the same work for two: half the micro-batches each. */
export interface Pair {
  name: string;
  one: TrainSettings;
  two: TrainSettings;
  blank?: boolean;
  poisoned?: boolean;
}

export function pairFor(place: Workplace, name: string, changes: Partial<TrainSettings>): Pair {
  const { gradient_accumulation_steps: own = 1, ...others } = changes;
  const of = (ranks: number): TrainSettings =>
    settingsFor(place, {
      max_steps: 5,
      ...others,
      gradient_accumulation_steps: ranks * own,
      output_dir: place.out(`${name}-${ranks}`),
    });
  return {
    name,
    one: { ...of(2), parameters: "device" },
    two: { ...of(2), gradient_accumulation_steps: own, output_dir: place.out(`${name}-1`) },
  };
}

export async function checkPairs(
  place: Workplace,
  pairs: Pair[],
  ranks = 2,
): Promise<{ one: Ran[]; saw: Awaited<ReturnType<typeof trainOnRanks>> }> {
  const saw = await trainOnRanks(
    place.folder,
    ranks,
    pairs.map(({ two, blank, poisoned }) => ({ settings: two, blank, poisoned })),
  );
  const one: Ran[] = [];
  for (const [i, pair] of pairs.entries()) {
    const ran = await runTraining(pair.one, { look: pair.blank ? blankFirst : pair.poisoned ? poison : undefined });
    one.push(ran);
    for (const [rank, cases] of saw.entries()) {
      const { failure, steps, evals } = cases[i];
      const where = `${pair.name}, rank ${rank}`;
      assert.equal(failure, null, where);
      assert.deepEqual(steps.map(SAME), ran.steps.map(SAME), where);
      assert.deepEqual(evals, ran.evals, where);
    }
    assert.ok(weightsOf(saw[0][i].outcome.folder).equals(weightsOf(ran.outcome.folder)), `${pair.name}: weights`);
  }
  return { one, saw };
}
