// Tensors that go between ranks as those of cards do, through copies or over NCCL (a stand-in): the same bits as without, in every layout, and nothing
// is left of them (which every run asserts of its own).
import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, settingsFor, weightsOf } from "../testing-run.js";
import { makeNcclStandIn } from "../../torch/comm/testing-nccl.js";
import { isCpu } from "../../torch/device-name.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { makeTransportCases } from "./testing-transports.js";
import { type RankSaw, trainOnRanks } from "./testing-ranks.js";

/** The stand-in for NCCL moves main memory. On a card, tensors go through copies whatever is said. */
const ON_CPU = isCpu(TEST_DEVICE);

for (const world of [2, 3])
  test(`${world} ranks have the same bits with copies, over NCCL and without`, async (t) => {
    const place = makeWorkplace(t);
    const cases = makeTransportCases(t, world);
    // In order, sums go over Gloo, and ranks are not at the same place.
    const direct = cases.filter(({ settings }) => ON_CPU && settings.rank_sums === "direct");
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

test("runs whose batches have bad values leave nothing behind", async (t) => {
  const place = makeWorkplace(t);
  const nccl = makeNcclStandIn(t);
  for (const [way, travel, rank_sums] of [
    ["copies", { copiesAll: true }, "ordered"],
    ["nccl", ON_CPU ? { nccl } : {}, "direct"],
  ] as const) {
    const of = (name: string, changes: Partial<TrainSettings>): TrainSettings => {
      const skip = { on_nonfinite: "skip", max_steps: 4, max_grad_norm: 0.5, rank_sums } as const;
      return settingsFor(place, { ...skip, ...changes, output_dir: place.out(`${name}-${way}`) });
    };
    const rows = { parameters: "sharded", rank_sums: "direct", share_experts: "rows" } as const;
    const saw = await trainOnRanks(
      place.folder,
      2,
      [
        { settings: of("replicas", {}), poisoned: true },
        { settings: of("shares", { parameters: "sharded" }), poisoned: true },
        { settings: of("forward", { parameters: "sharded" }), spoiltForward: true },
        { settings: of("block", rows), spoiltBlock: 2 },
        { settings: of("back", rows), spoiltBack: 2 },
        // Behind the forward pass, and behind the backward pass that measures.
        { settings: of("look", rows), spoiltLook: 1 },
        { settings: of("second look", { parameters: "sharded" }), spoiltLook: 3 },
      ],
      travel,
    );
    checkRecovered(saw, way);
  }
  const settings = settingsFor(place, {
    ...{ on_nonfinite: "skip", max_grad_norm: 0.5, max_steps: 4, output_dir: place.out("three") },
  });
  checkRecovered(await trainOnRanks(place.folder, 3, [{ settings, poisoned: true }]), "three ranks");
  const last = settingsFor(place, { on_nonfinite: "skip", output_dir: place.out("last look") });
  const ends = await trainOnRanks(place.folder, 2, [{ settings: last, spoiltLook: 3, fails: true }]);
  for (const [{ failure }] of ends) assert.match(failure ?? "", /rank 1: a value is spoilt/);
});

/** Every run has met bad values, and gone on. */
function checkRecovered(saw: RankSaw[][], where: string): void {
  for (const [rank, ran] of saw.entries())
    for (const [i, { failure, steps, messages }] of ran.entries()) {
      assert.deepEqual([failure, steps.length > 2], [null, true], `${where}, rank ${rank}, case ${i}`);
      if (rank > 0) continue;
      assert.ok(
        messages.some((message) => /not (a )?finite|spoilt/.test(message)),
        `${where}, case ${i}: ${messages}`,
      );
    }
}

test("what is asked of NCCL goes over it, and nothing else does", { skip: !ON_CPU }, async (t) => {
  const place = makeWorkplace(t);
  const ran = (rank_sums: "ordered" | "direct") =>
    trainOnRanks(
      place.folder,
      2,
      [{ settings: settingsFor(place, { max_steps: 1, rank_sums, output_dir: place.out(rank_sums) }) }],
      { nccl: "/nowhere/libnccl.so.2" },
    );
  // Rank 0 has said on the terminal that it cannot be opened.
  await assert.rejects(ran("direct"), /rank 0 ended with code 1/);
  assert.equal((await ran("ordered"))[0][0].failure, null);
});
