// The ways that are found: each is planned again and fits, what was asked stays, the order is the one that is promised, and what does not
// fit is said. Machines are described; times are estimates and are compared with one another only.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import type { SettingValue } from "../../settings/table.js";
import { planStep } from "../plan.js";
import { resolverOf } from "../settings.js";
import type { Geometry } from "../shadow-step.js";
import { SIZES } from "../testing-grid.js";
import { CARD_NAMES, cardOf, listedAs, type Machine, machineOf } from "./machine.js";
import { flopsOfToken } from "./speed.js";
import { storedWeightBytes } from "./space.js";
import { findWays, shorterThatFits, type Way } from "./ways.js";
import { changesBetween, waysTable } from "./words.js";

const GIB = 2 ** 30;
const MIB = 2 ** 20;

const tiny: Geometry = {
  architecture: readArchitecture({ ...SIZES, model_type: "qwen3_moe", num_hidden_layers: 6, head_dim: 16 }, "test"),
  dtypeOf: () => "float32",
};
/** Qwen3-30B-A3B's. */
const large: Geometry = {
  architecture: readArchitecture(
    {
      ...{ model_type: "qwen3_moe", hidden_size: 2048, num_hidden_layers: 48, num_attention_heads: 32 },
      ...{ num_key_value_heads: 4, head_dim: 128, moe_intermediate_size: 768, intermediate_size: 6144 },
      ...{ num_experts: 128, num_experts_per_tok: 8, vocab_size: 151_936, max_position_embeddings: 40_960 },
    },
    "test",
  ),
  dtypeOf: () => "bfloat16",
};

const RATES = { flops: 1e12, memoryRate: 2e10, diskRate: 1.5e9 };
const machine = (gpu: string, memoryBytes: number, diskBytes: number): Machine => ({
  card: gpu === "" ? null : cardOf(gpu),
  ...{ memoryBytes, diskBytes },
  ...RATES,
});

function waysOn(geometry: Geometry, on: Machine, given: Record<string, SettingValue> = {}): Way[] {
  const asked = new Set(Object.keys(given));
  return findWays(resolverOf({ model: "-", ...given }, new Set([...asked, "model"])), geometry, on, asked);
}

/** All that is promised of ways. */
function check(ways: Way[], geometry: Geometry, on: Machine): void {
  const most = on.card?.bytes ?? on.memoryBytes;
  for (const { plan } of ways) {
    const again = planStep(plan.settings, geometry);
    assert.deepEqual(again.placed, plan.placed);
    assert.ok(plan.placed.deviceBytes <= most);
    assert.ok(on.card === null || plan.placed.hostBytes <= on.memoryBytes);
    assert.ok(plan.placed.diskBytes + storedWeightBytes(geometry) <= on.diskBytes);
  }
  const fastest = Math.min(...ways.map(({ seconds }) => seconds));
  assert.ok(ways[0].seconds <= 1.5 * fastest);
  const rest = ways.slice(1).map(({ seconds }) => seconds);
  assert.deepEqual(
    rest,
    [...rest].sort((a, b) => a - b),
  );
}

for (const [name, on, store] of [
  ["a big card", machine("H200", 256 * GIB, 500 * GIB), "device"],
  ["a card of 24 GiB", machine("RTX 4090", 96 * GIB, 500 * GIB), "host"],
  ["a small card and little memory", machine("8GiB", 16 * GIB, 500 * GIB), "disk"],
  ["no card", machine("", 24 * GIB, 500 * GIB), "disk"],
] as const) {
  test(`30 B parameters on a machine with ${name}: every way fits, from where it has to be`, () => {
    const ways = waysOn(large, on);
    check(ways, large, on);
    assert.equal(ways[0].plan.settings.parameters, store);
    const table = waysTable(ways, "MODEL");
    for (const line of table.split("\n").filter((each) => each.includes("revmoe train")))
      assert.match(line, /^ {2}revmoe train --model MODEL .*--train-file FILE --output-dir FOLDER$/);
  });
}

test("what is asked for stays, whatever else would be faster", () => {
  const on = machine("RTX 4090", 96 * GIB, 500 * GIB);
  for (const given of [
    { optimizer: "lion", parameters: "disk" },
    { method: "reversible", gamma: -0.0625, per_device_train_batch_size: 2, gradient_accumulation_steps: 2 },
    { blocks_on_device: 1, parameters: "host" },
    { stream: "int64", tile_tokens: 64 },
  ] as Record<string, SettingValue>[]) {
    const ways = waysOn(tiny, on, given);
    assert.ok(ways.length > 0);
    for (const { plan } of ways)
      for (const [name, value] of Object.entries(given))
        assert.equal(plan.settings[name as keyof typeof plan.settings], value);
  }
});

test("the better way comes first where it takes little longer; nothing is given up for nothing", () => {
  const [first, ...others] = waysOn(tiny, machine("", 8 * GIB, 100 * GIB));
  const { method, optimizer, parameters } = first.plan.settings;
  assert.deepEqual([method, optimizer, parameters, first.quality], ["store", "adamw", "device", ""]);
  for (const { seconds, quality } of others) {
    assert.ok(seconds * 1.1 < first.seconds);
    assert.notEqual(quality, "");
  }
});

test("where little fits, rows are split, then tiles and groups; then shorter rows are found", () => {
  const least = (on: Machine, given = {}) => waysOn(tiny, on, { max_length: 512, ...given });
  const room = (bytes: number): Machine => machine("", bytes, 100 * GIB);
  const [whole] = least(room(8 * GIB), { method: "checkpoint", coupling: "ordinary" });
  const { per_device_train_batch_size: rows, gradient_accumulation_steps: steps } = whole.plan.settings;
  const peak = whole.plan.placed.deviceBytes;
  const ways = least(room(peak / 2));
  check(ways, tiny, room(peak / 2));
  for (const { plan } of ways) {
    const { per_device_train_batch_size: r, gradient_accumulation_steps: s } = plan.settings;
    assert.equal(r * s, rows * steps);
    assert.ok(r < rows || plan.settings.parameters === "disk");
  }
  assert.deepEqual(least(room(MIB / 4)), []);
  const resolve = resolverOf({ model: "-", max_length: 512 }, new Set(["model", "max_length"]));
  const asked = new Set(["max_length"]);
  assert.equal(shorterThatFits(resolve, tiny, room(MIB / 4), asked), null);
  const leanest = Math.min(...least(room(peak / 2)).map(({ plan }) => plan.placed.deviceBytes));
  let tooLittle = leanest / 2;
  while (least(room(tooLittle)).length > 0) tooLittle *= 0.9;
  const short = shorterThatFits(resolve, tiny, room(tooLittle), asked);
  assert.ok(short !== null && short.plan.settings.max_length < 512);
  assert.deepEqual(least(machine("", 8 * GIB, 1000)), [], "the result has no room");
});

test("cards are found by name or by memory; what is neither is told what there is", () => {
  for (const name of CARD_NAMES) assert.equal(cardOf(name).name, name);
  assert.equal(cardOf("nvidia geforce rtx 4090").name, "RTX 4090");
  assert.equal(cardOf("4090").name, "RTX 4090");
  assert.equal(cardOf("h100").name, "H100");
  const { bytes, name } = cardOf("24GiB");
  assert.equal(bytes, 24 * GIB);
  assert.match(name, /as fast as RTX (3090|4090)/);
  assert.throws(
    () => cardOf("A100"),
    /^UserError: gpu: "A100" is more than one card \(expected A100 40GB, A100 80GB, or/,
  );
  for (const wrong of ["", "Voodoo 2", "0GiB"])
    assert.throws(() => cardOf(wrong), /^UserError: gpu: ".*" is not known \(expected RTX/);
  const here = machineOf({ gpu: "", memory: "", disk: "", device: "cpu", folder: "/nowhere/at/all" });
  assert.ok(here.card === null && here.memoryBytes > 0 && here.diskBytes > 0 && here.flops > 1e9);
  const told = machineOf({ gpu: "L4", memory: "32GiB", disk: "1TB", device: "cpu", folder: "." });
  assert.deepEqual([told.card?.name, told.memoryBytes, told.diskBytes], ["L4", 32 * GIB, 1e12]);
});

test("a card of this machine is known by what its driver calls it", () => {
  for (const [name, gib, listed] of [
    ["NVIDIA A100-SXM4-80GB", 79, "A100 80GB"],
    ["NVIDIA A100-PCIE-40GB", 39, "A100 40GB"],
    ["NVIDIA A10G", 22, "A10"],
    ["NVIDIA L40S", 44, "L40S"],
    ["NVIDIA L4", 22, "L4"],
    ["NVIDIA RTX A6000", 47, "RTX A6000"],
    ["NVIDIA H100 80GB HBM3", 79, "H100"],
    ["NVIDIA GeForce RTX 4060 Ti", 15, "RTX 4060 Ti 16GB"],
    ["NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94, "RTX PRO 6000"],
    ["Tesla T4", 15, undefined],
    ["NVIDIA GeForce RTX 3070 Laptop GPU", 8, undefined],
  ] as const)
    assert.equal(listedAs(name, gib * GIB)?.name, listed, name);
});

test("a setting that is given leaves the others of its kind to be tried; what it excludes is no way", () => {
  const asked = {
    ...{ max_length: 16, per_device_train_batch_size: 1, loss_tile_tokens: 1024 },
    ...{ optimizer: "adamw", parameters: "device", method: "reversible" },
  };
  const resolve = resolverOf({ model: "-", ...asked }, new Set(["model", ...Object.keys(asked)]));
  const bytesOf = (change: Record<string, number>): number => planStep(resolve(change), tiny).placed.deviceBytes;
  const grouped = bytesOf({ tile_tokens: 512, expert_group_size: 1 });
  assert.ok(grouped < bytesOf({}) && grouped < bytesOf({ tile_tokens: 512 }));
  const [way] = waysOn(tiny, machine("", grouped, 100 * GIB), asked);
  assert.deepEqual([way.plan.settings.expert_group_size, way.plan.settings.loss_tile_tokens], [1, 1024]);
  assert.deepEqual(waysOn(tiny, machine("", MIB / 2, 100 * GIB), { method: "store", coupling: "ordinary" }), []);
});

test("the work of a token counts what takes part: 3.3 B of Qwen3-30B-A3B's parameters", () => {
  const { blocks, head } = flopsOfToken(large.architecture, 0);
  const active = (blocks + head) / 2 + 151_936 * 2048;
  assert.ok(Math.abs(active / 3.35e9 - 1) < 0.01, `${active}`);
  assert.ok(flopsOfToken(large.architecture, 4096).blocks > blocks);
});

test("what a way changes is told apart from what was asked", () => {
  const resolve = resolverOf({ model: "-" }, new Set(["model"]));
  assert.deepEqual(changesBetween(resolve({}), resolve({})), {});
  assert.deepEqual(changesBetween(resolve({}), resolve({ optimizer: "lion", tile_tokens: 7 })), {
    optimizer: "lion",
    tile_tokens: 7,
  });
});
