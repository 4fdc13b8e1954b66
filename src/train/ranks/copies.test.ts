// Tensors that go between ranks through copies, as those of cards do: the same bits as without, in every layout, and nothing is left of them (which
// every run asserts of its own).
import assert from "node:assert/strict";
import { test } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, settingsFor, weightsOf } from "../testing-run.js";
import { makeTransportCases } from "./testing-transports.js";
import { trainOnRanks } from "./testing-ranks.js";

for (const world of [2, 3])
  test(`${world} ranks have the same bits with copies and without`, async (t) => {
    const place = makeWorkplace(t);
    const cases = makeTransportCases(t, world);
    const seen = [];
    for (const copiesAll of [false, true]) {
      const named = cases.map(({ name, settings }) => ({
        settings: { ...settings, output_dir: place.out(`${name}-${copiesAll}`) },
      }));
      seen.push(await trainOnRanks(place.folder, world, named, { copiesAll }));
    }
    const [plain, copied] = seen;
    for (const [i, { name }] of cases.entries()) {
      for (const [rank, ran] of copied.entries()) {
        assert.equal(ran[i].failure, null, name);
        assert.deepEqual(
          ran[i].steps.map(({ loss, gradNorm }) => [loss, gradNorm]),
          plain[rank][i].steps.map(({ loss, gradNorm }) => [loss, gradNorm]),
          name,
        );
        assert.deepEqual(ran[i].sent, plain[rank][i].sent, `${name}: bytes sent`);
      }
      assert.ok(weightsOf(copied[0][i].outcome.folder).equals(weightsOf(plain[0][i].outcome.folder)), name);
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
