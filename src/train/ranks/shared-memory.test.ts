// What ranks that share weights and state hold and send: each a share of the bytes, as the plan says, and as many bytes a step whatever the accumulation.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { MemoryTerms } from "../../step/memory-terms.js";
import { parameterCount, placedParameters } from "../../model/model.js";
import { planStep } from "../../plan/plan.js";
import { plannedShares } from "../../plan/shadow-step.js";
import { stepTraffic } from "../../plan/traffic.js";
import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../testing-run.js";
import { geometryOf, makeLargerWorkplace } from "./testing-larger.js";
import { trainOnRanks } from "./testing-ranks.js";

const WORK: Partial<TrainSettings> = {
  ...{ init_weights: "random", weights_dtype: "bfloat16", parameters: "sharded", max_steps: 2 },
  ...{ gradient_accumulation_steps: 1 },
};

test("weights and state are shares of the whole, as planned, and so is the peak", async (t) => {
  const place = makeLargerWorkplace(t);
  const geometry = geometryOf(place);
  const alone = settingsFor(place, { ...WORK, parameters: "device", output_dir: place.out("alone") });
  const whole = (await runTraining(alone)).outcome.memory as MemoryTerms;
  const wanted: Record<number, Partial<TrainSettings>[]> = {
    2: [{ optimizer: "adamw" }, { optimizer: "adalomo" }, { optimizer: "adalomo", rank_sums: "direct" }],
    3: [{ optimizer: "adamw8bit" }, { optimizer: "lion", rank_sums: "direct" }],
  };
  for (const world of [2, 3] as const) {
    const cases = wanted[world].map((changes, i) => ({
      settings: settingsFor(place, { ...WORK, ...changes, output_dir: place.out(`${world}-${i}`) }),
    }));
    const saw = await trainOnRanks(place.folder, world, cases);
    for (const [i, { settings }] of cases.entries()) {
      const { held } = plannedShares(settings, geometry, world);
      const terms = saw.map((ran) => ran[i].outcome.memory as MemoryTerms);
      assert.deepEqual(
        terms.map(({ weightBytes, stateBytes }) => ({ weightBytes, stateBytes })),
        held,
      );
      const where = `${world} ranks, ${settings.optimizer}`;
      for (const { weightBytes } of terms)
        assert.ok(Math.abs((weightBytes * world) / whole.weightBytes - 1) < 0.02, `${where}: ${weightBytes}`);
      const measured = Math.max(...terms.map(({ peakBytes }) => peakBytes));
      const { peakBytes: planned } = planStep(settings, geometry, undefined, world).terms;
      const error = planned / measured - 1;
      t.diagnostic(
        `${where}: planned ${planned}, measured ${measured}, ${(100 * error).toFixed(2)} %; alone ${whole.peakBytes}`,
      );
      assert.ok(Math.abs(error) < 0.05, `${where}: planned ${planned}, measured ${measured}`);
    }
  }
});

test("copies in main memory of what cards send are as large as planned", async (t) => {
  const place = makeLargerWorkplace(t);
  const geometry = geometryOf(place);
  const cases = ([{}, { rank_sums: "direct" }] as const).map((changes, i) =>
    settingsFor(place, { ...WORK, ...changes, optimizer: "adalomo", output_dir: place.out(`${i}`) }),
  );
  const saw = await trainOnRanks(
    place.folder,
    2,
    cases.map((settings) => ({ settings })),
    { copiesAll: true },
  );
  for (const [i, settings] of cases.entries()) {
    const measured = Math.max(...saw.map((ran) => (ran[i].outcome.memory as MemoryTerms).peakBytes));
    const without = planStep(settings, geometry, undefined, 2).terms.peakBytes;
    const { hostBytes } = planStep({ ...settings, device: "cuda" }, geometry, undefined, 2).placed;
    t.diagnostic(`${settings.rank_sums}: measured ${measured}; planned ${without} and copies of ${hostBytes}`);
    // On a CPU both are in one place, and need not be at their highest at the same time.
    assert.ok(measured > without, `${settings.rank_sums}: ${measured}, planned ${without}`);
    assert.ok(
      measured < 1.05 * (without + hostBytes),
      `${settings.rank_sums}: ${measured}, of ${without} and ${hostBytes}`,
    );
  }
});

test("shares in files take no memory but that of a step, and the files are as large as planned", async (t) => {
  const place = makeLargerWorkplace(t);
  const geometry = geometryOf(place);
  const memory = settingsFor(place, { ...WORK, output_dir: place.out("memory") });
  const files = settingsFor(place, { ...WORK, parameters: "sharded-disk", output_dir: place.out("files") });
  const saw = await trainOnRanks(place.folder, 2, [{ settings: memory }, { settings: files }]);
  const { placed, terms: planned } = planStep(files, geometry, undefined, 2);
  const { held } = plannedShares(files, geometry, 2);
  assert.equal(placed.diskBytes, Math.max(...held.map(({ weightBytes, stateBytes }) => weightBytes + stateBytes)));
  for (const [rank, ran] of saw.entries()) {
    const [inMemory, inFiles] = ran.map(({ outcome }) => outcome.memory as MemoryTerms);
    assert.deepEqual([inFiles.weightBytes, inFiles.stateBytes], [0, 0]);
    const own = held[rank].weightBytes + held[rank].stateBytes;
    assert.ok(Math.abs((inMemory.peakBytes - inFiles.peakBytes) / own - 1) < 0.02, `rank ${rank}`);
  }
  const measured = Math.max(...saw.map(([, { outcome }]) => outcome.memory?.peakBytes ?? 0));
  t.diagnostic(`planned ${planned.peakBytes}, measured ${measured}; ${placed.diskBytes} in files`);
  // Beside so little, workspaces that libtorch 2 takes and no rule counts are seen.
  const most = 0.05 * measured + 65_536;
  assert.ok(Math.abs(planned.peakBytes - measured) < most, `planned ${planned.peakBytes}, measured ${measured}`);
});

test("bytes that are sent in a step follow from the parameters alone, as the plan says", async (t) => {
  const place = makeLargerWorkplace(t);
  const tied = makeWorkplace(t, "hf-tied");
  const cases: [Workplace, Partial<TrainSettings>][] = [
    [place, {}],
    [place, { gradient_accumulation_steps: 3 }],
    [place, { max_grad_norm: 1, optimizer: "adalomo" }],
    [tied, { max_grad_norm: 1 }],
    [tied, { parameters: "device" }],
    [tied, { parameters: "device", max_grad_norm: 1, rank_sums: "direct" }],
    [place, { rank_sums: "direct", gradient_accumulation_steps: 2 }],
  ];
  for (const world of [2, 3]) {
    const some = world === 2 ? cases : cases.filter(([of, changes]) => of === place && !changes.optimizer);
    const settings = some.map(([of, changes], i) =>
      settingsFor(of, { ...WORK, ...changes, output_dir: place.out(`sent-${world}-${i}`) }),
    );
    const saw = await trainOnRanks(
      place.folder,
      world,
      settings.map((each) => ({ settings: each })),
    );
    for (const [i, each] of settings.entries()) {
      const sent = saw.reduce((sum, ran) => sum + ran[i].sent[0], 0);
      assert.equal(sent, stepTraffic(each, geometryOf(some[i][0]), world), `${world} ranks, case ${i}`);
    }
  }
  // With weights in bfloat16, nearly 8 bytes a parameter and another rank, and 4 to bring what is whole to who holds it.
  const geometry = geometryOf(place);
  const parameters = parameterCount(placedParameters(geometry.architecture));
  const perRank = stepTraffic(settingsFor(place, WORK), geometry, 8) / 8;
  assert.ok(Math.abs(perRank / ((parameters * (8 + 4 / 8) * 7) / 8) - 1) < 0.02);
  const direct = stepTraffic(settingsFor(place, { ...WORK, rank_sums: "direct" }), geometry, 8) / 8;
  assert.ok(Math.abs(direct / ((parameters * 8 * 7) / 8) - 1) < 0.02);
});
