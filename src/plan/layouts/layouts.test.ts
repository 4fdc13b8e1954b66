// Times of ranks: what is hidden and what is not, by hand; what a link carries, beside the bytes that are counted; and which layout is taken.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { resolveSettings } from "../../train/settings/settings.js";
import type { Geometry } from "../shadow-step.js";
import { stepTraffic } from "../traffic.js";
import type { Machine } from "../ways/machine.js";
import type { Resolve } from "../ways/space.js";
import { LAYOUTS, sentOf } from "./layouts.js";
import { layoutTimes, planLayouts } from "./times.js";

const geometryOf = (golden: string): Geometry => {
  const path = new URL(`../../../test/golden/${golden}/config.json`, import.meta.url);
  return {
    architecture: readArchitecture(JSON.parse(readFileSync(path, "utf8")), golden),
    dtypeOf: () => "bfloat16",
  };
};

const MODEL = { model: "-", train_file: "-", output_dir: "-", max_length: 64, compute_dtype: "float32" };
const resolve: Resolve = (change) => resolveSettings({ flags: { ...MODEL, ...change } }).settings;
const MACHINE: Machine = {
  ...{ card: null, memoryBytes: 2 ** 40, diskBytes: 2 ** 40, flops: 1e11 },
  ...{ memoryRate: 2e10, diskRate: 1e9 },
};

test("a pass takes the longer of computing and exchange, the first block's exchange, and the wait for the last rank", () => {
  const parts = { forward: 4, backward: 10, backwards: 2, updating: 2, moved: 0 };
  const whole = { blocks: 10, link: 1e9 };
  const times = (forward: number, measuring: number, updating: number, behind: number, moved = 0) =>
    layoutTimes(
      { ...parts, moved },
      { forward: forward * 1e9, measuring: measuring * 1e9, updating: updating * 1e9 },
      { ...whole, behind },
    );
  assert.deepEqual(times(0, 0, 0, 0), { computing: 26, exchange: 0, seconds: 26, hidden: 1 });
  // Three blocks behind: three tenths of each backward pass.
  assert.ok(Math.abs(times(0, 0, 0, 3).seconds - (4 + 22 * 1.3)) < 1e-9);
  // All hidden but a tenth of each.
  const some = times(2, 5, 10, 0);
  assert.ok(Math.abs(some.seconds - (26 + 1.7)) < 1e-9);
  assert.ok(Math.abs(some.hidden - 0.9) < 1e-9);
  // A link that is slower than the processor: 14 - 4 of the forward pass are seen, too.
  const slow = times(14, 5, 10, 0);
  assert.ok(Math.abs(slow.seconds - (14 + 10 + 12 + 2.9)) < 1e-9);
  assert.ok(Math.abs(slow.hidden - (1 - 12.9 / 29)) < 1e-9);
  assert.equal(times(0, 0, 0, 0, 99).seconds, 99);
  // Rows are waited for, and nothing hides them: 3 on the way there, 2 on each way back.
  const awaited = { forward: 3e9, backward: 2e9 };
  const rows = layoutTimes(parts, { forward: 0, measuring: 0, updating: 0, awaited }, { ...whole, behind: 0 });
  assert.deepEqual(rows, { computing: 26, exchange: 7, seconds: 33, hidden: 0 });
});

for (const golden of ["hf-tiny", "hf-tied", "gptoss-plain"]) {
  test(`${golden}: the busiest link carries no less than the mean of what is counted, and of shares little more`, () => {
    const geometry = geometryOf(golden);
    for (const { name, change, linkBytes } of LAYOUTS) {
      for (const world of [2, 3, 8, 64]) {
        for (const max_grad_norm of [0, 1]) {
          const settings = resolve({ ...(change as object), max_grad_norm });
          const sent = sentOf(geometry, settings, world);
          const { forward, measuring, updating, awaited = { forward: 0, backward: 0 } } = linkBytes(sent, world);
          const rows = awaited.forward + awaited.backward * (max_grad_norm > 0 ? 2 : 1);
          const busiest = forward + updating + rows + (max_grad_norm > 0 ? measuring : 0);
          const ratio = busiest / (stepTraffic(settings, geometry, world) / world);
          const where = `${name}, ${world} ranks, limit ${max_grad_norm}: ${ratio}`;
          // Shares of a model this small are not even.
          assert.ok(ratio > 0.9, where);
          if (change.parameters !== "device") assert.ok(ratio < 1.75, where);
        }
      }
    }
  });
}

test("the fastest that fits comes first, and what was asked for stays", () => {
  const geometry = geometryOf("hf-tiny");
  const plan = (machine: Partial<Machine>, asked: string[] = [], change: Parameters<Resolve>[0] = {}) =>
    planLayouts((more) => resolve({ ...change, ...more }), geometry, {
      ...{ machine: { ...MACHINE, ...machine }, world: 4, link: 1e9 },
      asked: new Set(asked),
    });
  const all = plan({});
  assert.deepEqual(
    all.map(({ fits }) => fits),
    new Array(8).fill(true),
  );
  assert.ok(all.every(({ seconds }, i) => i === 0 || seconds >= all[i - 1].seconds));
  const peakOf = (parameters: string): number =>
    all.find(({ layout: { change } }) => change.parameters === parameters && change.rank_sums === "ordered")?.plan
      .placed.deviceBytes ?? 0;
  assert.ok(peakOf("device") > peakOf("sharded") && peakOf("sharded") > peakOf("sharded-disk"));
  const inOrder = [["rank_sums", "share_experts"], { rank_sums: "ordered" }] as const;
  const [first, ...others] = plan({ memoryBytes: peakOf("sharded-disk") }, [...inOrder[0]], inOrder[1]);
  assert.deepEqual([first.layout.change.parameters, first.fits], ["sharded-disk", true]);
  assert.ok(others.every(({ fits }) => !fits));
  const noDisk = { memoryBytes: peakOf("sharded-disk"), diskBytes: 1000 };
  assert.ok(plan(noDisk, [...inOrder[0]], inOrder[1]).every(({ fits }) => !fits));
  const asked = plan({}, ["parameters", "rank_sums"], { parameters: "sharded", rank_sums: "direct" });
  assert.deepEqual(asked.map(({ layout }) => layout.name).sort(), [
    "shares in memory, direct sums",
    "shares in memory, rows to experts",
  ]);
  // Without a wait for those before, and with less to send.
  for (const { layout, seconds } of all) {
    const direct = all.find(({ layout: { name } }) => name === `${layout.name}, direct sums`);
    if (direct) assert.ok(direct.seconds < seconds, layout.name);
  }
});
