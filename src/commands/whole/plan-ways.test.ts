// The ways of `revmoe plan`, as they are promised: each printed command is one that `train` takes, and plans to the same memory; and no other
// setting is faster by more than a leaner one has to be worth. experiments/plan/ways.mjs draws more of them, for more models.
import assert from "node:assert/strict";
import { test } from "node:test";

import { parseFlags } from "../../cli/flags.js";
import { readArchitecture } from "../../families/registry.js";
import { planStep } from "../../plan/plan.js";
import { resolverOf } from "../../plan/settings.js";
import type { Geometry } from "../../plan/shadow-step.js";
import { SIZES } from "../../plan/testing-grid.js";
import { cardOf, type Machine } from "../../plan/ways/machine.js";
import { findWays, leanWay, type Way } from "../../plan/ways/ways.js";
import { trainFlags } from "../../plan/words.js";
import type { SettingValue } from "../../settings/table.js";
import { resolveSettings } from "../../train/settings/settings.js";
import { command as train } from "../train.js";

const GIB = 2 ** 30;
const geometryOf = (config: Record<string, unknown>, dtype: "float32" | "bfloat16"): Geometry => ({
  architecture: readArchitecture(config, "test"),
  dtypeOf: () => dtype,
});
const TINY = geometryOf({ ...SIZES, model_type: "qwen3_moe", num_hidden_layers: 6, head_dim: 16 }, "float32");
const MIXTRAL = geometryOf(
  {
    ...{ model_type: "mixtral", hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32 },
    ...{ num_key_value_heads: 8, intermediate_size: 14_336, num_local_experts: 8, num_experts_per_tok: 2 },
    ...{ vocab_size: 32_000, max_position_embeddings: 32_768 },
  },
  "bfloat16",
);
const machine = (gpu: string, memory: number, disk: number): Machine => ({
  card: gpu === "" ? null : cardOf(gpu),
  ...{ memoryBytes: memory * GIB, diskBytes: disk * GIB },
  ...{ flops: 1e12, memoryRate: 2e10, diskRate: 1.5e9 },
});
const MACHINES = {
  "a laptop": machine("", 16, 200),
  "a card of 24 GiB": machine("RTX 4090", 64, 1000),
  "a card of 12 GiB": machine("RTX 3060", 32, 500),
  "a card of 80 GiB": machine("H100", 256, 2000),
  "a processor with 128 GiB": machine("", 128, 500),
  "a card of 8 GiB": machine("8GiB", 32, 200),
};

type Given = Record<string, SettingValue>;
const resolver = (given: Given) => resolverOf({ model: "-", ...given }, new Set(["model", ...Object.keys(given)]));

/** The settings of a printed command, as the command line reads them. */
function settingsOf(flags: string) {
  const words = flags.replace("FILE", "-").replace("FOLDER", "-").split(" ").slice(2);
  return resolveSettings({ flags: parseFlags(train, words).flags }).settings;
}

const TILES: Given[] = [{}, { tile_tokens: 512, loss_tile_tokens: 256 }, { tile_tokens: 128, loss_tile_tokens: 64 }];
const PLACES: Given[] = [
  { parameters: "device", method: "store", coupling: "ordinary" },
  ...["device", "host", "disk"].flatMap((parameters) => [
    { parameters, method: "checkpoint", coupling: "ordinary" },
    { parameters, method: "reversible", coupling: "momentum" },
  ]),
];

/** Ways to take the step that the tool may not have looked at, all for the optimizer of the fastest: of equal quality, or of less. */
const others = (fastest: Way, on: Machine): Given[] =>
  PLACES.filter(({ parameters }) => on.card !== null || parameters !== "host").flatMap((place, i) =>
    [TILES[i % 3], { ...TILES[(i + 1) % 3], per_device_train_batch_size: 1, gradient_accumulation_steps: 4 }].map(
      (more, j) => ({
        ...{ ...place, ...more, optimizer: fastest.plan.settings.optimizer },
        ...(place.method === "store" ? {} : { expert_group_size: [0, 1, 4][(i + j) % 3] }),
        device: on.card === null ? "cpu" : "cuda",
      }),
    ),
  );

for (const [model, geometry] of Object.entries({ "the tiny model": TINY, "Mixtral-8x7B": MIXTRAL })) {
  for (const [name, on] of Object.entries(MACHINES)) {
    test(`${model} on ${name}: commands are what was planned, and no other setting is faster`, () => {
      const ways = findWays(resolver({}), geometry, on, new Set());
      assert.ok(ways.length > 0);
      for (const { plan } of ways) {
        const settings = settingsOf(trainFlags({ ...plan.settings, model: "-" }));
        assert.deepEqual(planStep(settings, geometry).placed, plan.placed);
      }
      const fastest = ways.reduce((best, each) => (each.seconds < best.seconds ? each : best));
      let fit = 0;
      for (const given of others(fastest, on)) {
        const [other] = findWays(resolver(given), geometry, on, new Set([...Object.keys(given), "tile_tokens"]));
        if (other === undefined) continue;
        fit++;
        const tolerance = given.method === "reversible" ? 1.1 ** 2 : 1.1;
        assert.ok(other.seconds * tolerance >= fastest.seconds, `${other.seconds} ${trainFlags(other.plan.settings)}`);
      }
      assert.ok(fit > 0);
    });
  }
}

for (const [model, geometry, name, parameters] of [
  ["the tiny model", TINY, "a laptop", "disk"],
  ["Mixtral-8x7B", MIXTRAL, "a card of 80 GiB", "disk"],
  ["Mixtral-8x7B", MIXTRAL, "a card of 8 GiB", "disk"],
] as const) {
  test(`least memory, ${model} on ${name}: none that fits needs less than ten elevenths of it`, () => {
    const on = MACHINES[name];
    const lean = leanWay(resolver({}), geometry, on, new Set()) as Way;
    const least = lean.plan.placed.deviceBytes;
    assert.equal(lean.plan.settings.parameters, parameters);
    const ways = findWays(resolver({}), geometry, on, new Set());
    for (const { plan } of ways) assert.ok(least <= 1.1 * plan.placed.deviceBytes);
    const given = others(lean, on).flatMap((each) =>
      findWays(resolver(each), geometry, on, new Set(Object.keys(each))),
    );
    for (const { plan } of given.filter(({ plan }) => (plan.settings.tile_tokens ?? 0) >= 512))
      assert.ok(least <= 1.1 * plan.placed.deviceBytes, trainFlags(plan.settings));
    // Asked for, it stays.
    assert.equal(
      leanWay(resolver({ optimizer: "adalomo" }), geometry, on, new Set(["optimizer"]))?.plan.settings.optimizer,
      "adalomo",
    );
  });
}
