// What ranks that hold micro-batches together take and send: streams and stored bits fall as their number, and the peak and what is exchanged are as
// planned.
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { planStep } from "../../plan/plan.js";
import type { MemoryTerms } from "../../step/memory-terms.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";
import { trainOnRanks } from "./testing-ranks.js";

const LENGTH = 1024;

/** Six narrow blocks and rows of one length, so that tokens take most of the memory. */
function makeLongWorkplace(t: TestContext, golden: string, sizes: Record<string, unknown>): Workplace {
  const place = makeWorkplace(t, golden);
  const path = join(place.model, "config.json");
  const tiny = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...tiny, max_position_embeddings: 2 * LENGTH, ...sizes }));
  rmSync(join(place.model, "model.safetensors"));
  const text = "The sum of all is more than its parts. ".repeat(LENGTH);
  writeFileSync(place.rows, `${JSON.stringify({ text })}\n`);
  return place;
}

const WORK: Partial<TrainSettings> = {
  ...{ init_weights: "random", max_steps: 2, max_length: LENGTH, tile_tokens: 128, loss_tile_tokens: 128 },
  ...{ optimizer: "lomo", shuffle: false, weights_dtype: "bfloat16" },
};

test("what tokens take is shared out, as planned, and so is what is sent", async (t) => {
  const layers = 6;
  const place = makeLongWorkplace(t, "hf-tiny", {
    ...{ num_hidden_layers: layers, mlp_only_layers: [], layer_types: new Array(layers).fill("full_attention") },
  });
  const linear = makeLongWorkplace(t, "next-plain", {});
  const architecture = ({ model }: Workplace) =>
    readArchitecture(JSON.parse(readFileSync(join(model, "config.json"), "utf8")), "config.json");
  const cases: [string, Workplace, Partial<TrainSettings>][] = [
    ["reversible", place, {}],
    ["clipped", place, { max_grad_norm: 1, gradient_accumulation_steps: 2 }],
    ["checkpoint", place, { method: "checkpoint", coupling: "ordinary" }],
    ["shared", place, { parameters: "sharded" }],
    ["linear", linear, {}],
  ];
  for (const world of [2, 4]) {
    const some = cases.filter(([name]) => world === 2 || ["reversible", "shared"].includes(name));
    const all = some.map(([name, of, changes]) =>
      settingsFor(of, { ...WORK, ...changes, sequence_ranks: world, output_dir: of.out(`${name}-${world}`) }),
    );
    const saw = await trainOnRanks(
      place.folder,
      world,
      all.map((settings) => ({ settings })),
    );
    for (const [i, [name, of, changes]] of some.entries()) {
      const where = `${name}, ${world} ranks`;
      const settings = all[i];
      const geometry = { architecture: architecture(of), dtypeOf: () => "bfloat16" as const };
      const one = settingsFor(of, { ...WORK, ...changes, parameters: "device", output_dir: of.out(`${name}-alone`) });
      const alone = (await runTraining(one)).outcome.memory as MemoryTerms;
      for (const ran of saw) assert.equal(ran[i].failure, null, where);
      const terms = saw.map((ran) => ran[i].outcome.memory as MemoryTerms);
      for (const own of terms) {
        assert.equal(own.streamBytes * world, alone.streamBytes, where);
        assert.ok(Math.abs((own.keptBytes * world) / alone.keptBytes - 1) < 0.02, `${where}: ${own.keptBytes}`);
      }
      const measured = Math.max(...terms.map(({ peakBytes }) => peakBytes));
      const { terms: planned, ranks } = planStep(settings, geometry, undefined, world);
      const error = planned.peakBytes / measured - 1;
      t.diagnostic(
        `${where}: planned ${planned.peakBytes}, measured ${measured}, ${(100 * error).toFixed(2)} %; alone ${alone.peakBytes}`,
      );
      assert.ok(Math.abs(error) < 0.05, `${where}: planned ${planned.peakBytes}, measured ${measured}`);
      const sent = saw.reduce((sum, ran) => sum + ran[i].sent[0], 0) / world;
      assert.equal(sent, ranks.sentBytes, where);
    }
  }
});
