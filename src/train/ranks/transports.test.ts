// Tensors that go between ranks as those of cards do, through copies or over NCCL (a stand-in): the same bits as without, in every layout, and nothing
// is left of them (which every run asserts of its own).
import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, settingsFor, weightsOf } from "../testing-run.js";
import { makeNcclStandIn } from "../../torch/comm/testing-nccl.js";
import { makeTransportCases } from "./testing-transports.js";
import { type RankSaw, trainOnRanks } from "./testing-ranks.js";

for (const world of [2, 3])
  test(`${world} ranks have the same bits with copies, over NCCL and without`, async (t) => {
    const place = makeWorkplace(t);
    const cases = makeTransportCases(t, world);
    // In order, sums go over Gloo, and ranks are not at the same place.
    const direct = cases.filter(({ settings }) => settings.rank_sums === "direct");
    const run = (name: string, some: typeof cases, travel: Parameters<typeof trainOnRanks>[3]) => {
      const settings = some.map((each) => ({ ...each.settings, output_dir: place.out(`${each.name}-${name}`) }));
      return trainOnRanks(
        place.folder,
        world,
        settings.map((each) => ({ settings: each })),
        travel,
      );
    };
    const plain = await run("plain", cases, {});
    const ways: [string, typeof cases, RankSaw[][]][] = [
      ["copies", cases, await run("copies", cases, { copiesAll: true })],
      ["NCCL", direct, await run("nccl", direct, { nccl: makeNcclStandIn(t) })],
    ];
    for (const [way, some, saw] of ways)
      for (const [i, each] of some.entries()) {
        const where = `${each.name}, ${way}`;
        for (const [rank, ran] of saw.entries()) {
          const expected = plain[rank][cases.indexOf(each)];
          assert.equal(ran[i].failure, null, where);
          const figures = ({ steps }: RankSaw) => steps.map(({ loss, gradNorm }) => [loss, gradNorm]);
          assert.deepEqual(figures(ran[i]), figures(expected), where);
          assert.deepEqual(ran[i].sent, expected.sent, `${where}: bytes sent`);
          assert.ok(weightsOf(ran[i].outcome.folder).equals(weightsOf(expected.outcome.folder)), where);
        }
      }
  });

test("a run whose batches have bad values leaves no copies behind", async (t) => {
  const place = makeWorkplace(t);
  const skip: Partial<TrainSettings> = { on_nonfinite: "skip", max_steps: 4, max_grad_norm: 0.5 };
  const rows = { ...skip, parameters: "sharded", share_experts: "rows" } as const;
  const settings = [skip, { ...skip, parameters: "sharded" } as const, rows].map((changes, i) =>
    settingsFor(place, { ...changes, output_dir: place.out(`${i}`) }),
  );
  const [device, sharded, travel] = settings;
  const saw = await trainOnRanks(
    place.folder,
    2,
    [
      { settings: device, poisoned: true },
      { settings: sharded, poisoned: true },
      { settings: sharded, spoiltForward: true },
      { settings: travel, spoiltBlock: 2 },
      { settings: travel, spoiltBack: 2 },
    ],
    { copiesAll: true },
  );
  for (const ran of saw)
    for (const { failure, steps } of ran) assert.deepEqual([failure, steps.length > 2], [null, true]);
});
