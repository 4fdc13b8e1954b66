// The list of optimizers agrees with what each exports, and what follows from it has the words of all.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  goodRatesInWords,
  makeOptimizer,
  OPTIMIZER_MEMORY_ROWS,
  OPTIMIZER_NAMES,
  OPTIMIZER_ROWS,
  OPTIMIZERS,
  OPTIMIZERS_WITH,
  type OptimizerName,
  type OptimizerSettings,
  stateBytesInWords,
} from "./registry.js";
import { layoutBytes } from "./optimizer.js";
import { factsOf } from "./testing-rules.js";

test("names are each once, and what is made bears its name", () => {
  assert.equal(new Set(OPTIMIZER_NAMES).size, OPTIMIZER_NAMES.length);
  for (const optimizer of OPTIMIZER_NAMES) assert.equal(makeOptimizer({ optimizer }).name, optimizer);
});

test("optimizers that share a setting share its row", () => {
  const seen = new Map<string, unknown>();
  for (const { name, rows, memoryRows } of OPTIMIZERS)
    for (const [setting, row] of Object.entries({ ...memoryRows, ...rows })) {
      assert.equal(seen.get(setting) ?? row, row, `${setting} of ${name}`);
      seen.set(setting, row);
    }
  assert.deepEqual([...seen.keys()], Object.keys(OPTIMIZER_ROWS));
  assert.deepEqual([...seen.keys()], Object.keys(OPTIMIZERS_WITH));
});

test("which optimizers have a setting", () => {
  for (const name of ["adamw", "adamw8bit", "galore_adamw", "muon"] as const)
    assert.ok(OPTIMIZERS_WITH.adam_beta2.includes(name));
  for (const name of ["lomo", "sgd"] as const) assert.ok(!OPTIMIZERS_WITH.adam_beta2.includes(name));
  assert.deepEqual(OPTIMIZERS_WITH.sgd_momentum, ["sgd"]);
  assert.deepEqual(OPTIMIZERS_WITH.galore_rank, ["galore_adamw"]);
  assert.ok(Object.hasOwn(OPTIMIZER_MEMORY_ROWS, "galore_rank"));
});

test("settings have the types of their rows", () => {
  type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
  // Checked by tsc.
  const rank: Same<OptimizerSettings["galore_rank"], number> = true;
  const scaled: Same<OptimizerSettings["adafactor_scale_parameter"], boolean> = true;
  const isOpen: string extends OptimizerName | keyof OptimizerSettings ? true : false = false;
  assert.deepEqual([rank, scaled, isOpen], [true, true, false]);
});

test("only settings that are said to change the size of the state do", () => {
  const facts = factsOf([64, 32]);
  const bytes = (settings: Parameters<typeof makeOptimizer>[0]): number =>
    layoutBytes(makeOptimizer(settings).rule(facts).layout);
  assert.ok(
    bytes({ optimizer: "galore_adamw", galore_rank: 4 }) < bytes({ optimizer: "galore_adamw", galore_rank: 8 }),
  );
  for (const optimizer of OPTIMIZER_NAMES) {
    for (const [setting, row] of Object.entries(OPTIMIZER_ROWS)) {
      if (Object.hasOwn(OPTIMIZER_MEMORY_ROWS, setting) || typeof row.default !== "number") continue;
      assert.equal(
        bytes({ optimizer, [setting]: row.default / 2 }),
        bytes({ optimizer }),
        `${setting} of ${optimizer}`,
      );
    }
  }
});

test("bytes of state are those of the rule, for a matrix of a million elements", () => {
  for (const { name, stateBytes } of OPTIMIZERS) {
    const facts = factsOf([1024, 1024]);
    const each = layoutBytes(makeOptimizer({ optimizer: name }).rule(facts).layout) / 1024 ** 2;
    const [, below, said] = /^(below )?([\d.]+)$/.exec(stateBytes) ?? [];
    if (said === undefined) continue;
    // Scales of blocks are beside the 2 bytes of adamw8bit.
    assert.ok(
      below ? each < Number(said) : Math.abs(each - Number(said)) < 0.05,
      `${name}: ${each}, said ${stateBytes}`,
    );
  }
});

test("the words for help and docs name every optimizer once", () => {
  for (const words of [stateBytesInWords(), goodRatesInWords()]) {
    const named = words.split(/[ ,]+/).filter((word) => (OPTIMIZER_NAMES as readonly string[]).includes(word));
    assert.deepEqual(named.sort(), [...OPTIMIZER_NAMES].sort(), words);
  }
  assert.match(goodRatesInWords(), /1e-5 to 2e-5 with adamw, adamw8bit, adafactor and muon, .*1e-2 to 1e-1 with lomo$/);
});
