// Settings of programs: their types are the table's, and what is undefined was not given.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { GenerateOptions, PlanSettings, Settings } from "../index.js";
import { TRAIN_TABLE } from "../train/settings/settings.js";
import { readSettings } from "./settings.js";

const REQUIRED = { model: "m", output_dir: "o" };

test("types are the table's: what the compiler refuses, the table refuses, too", () => {
  const right: Settings = {
    ...REQUIRED,
    train_file: ["a.jsonl", { file: "b.parquet", rows: 100 }],
    optimizer: "adafactor",
    report_to: ["tensorboard"],
    columns: { prompt: "question", completion: "answer" },
    packing: false,
  };
  const { settings, given } = readSettings(TRAIN_TABLE, right);
  assert.equal(settings.train_file, '["a.jsonl",{"file":"b.parquet","rows":100}]');
  assert.deepEqual(settings.report_to, ["tensorboard"]);
  assert.deepEqual([...given].sort(), Object.keys(right).sort());
  const wrong: Settings[] = [
    // @ts-expect-error a choice that is none
    { ...REQUIRED, train_file: "a", optimizer: "adam" },
    // @ts-expect-error a name that is none
    { ...REQUIRED, train_file: "a", learnin_rate: 1 },
    // @ts-expect-error a word for a switch
    { ...REQUIRED, train_file: "a", packing: "maybe" },
    // @ts-expect-error a list for one value
    { ...REQUIRED, train_file: "a", seed: [1] },
    // @ts-expect-error what is required is missing
    { model: "m", train_file: "a" },
  ];
  for (const each of wrong) assert.throws(() => readSettings(TRAIN_TABLE, each), { name: "UserError" });
  // @ts-expect-error a machine that is described is text
  const plan: PlanSettings = { model: "m", memory: 64 };
  // @ts-expect-error of opening, not of a text
  const options: GenerateOptions = { device: "cuda" };
  assert.ok(plan && options);
});

test("undefined is not given, so that a default stands, and a setting without effect is none", () => {
  const bdia = { ...REQUIRED, train_file: "a", coupling: "additive" as const };
  const { given } = readSettings(TRAIN_TABLE, { ...bdia, gamma: undefined, max_steps: undefined });
  assert.deepEqual([...given].sort(), ["coupling", "model", "output_dir", "train_file"]);
  assert.throws(() => readSettings(TRAIN_TABLE, { ...bdia, gamma: 0.5 }), /^UserError: gamma 0\.5 has no effect/);
  for (const none of [null, undefined, 5, "model"])
    assert.throws(() => readSettings(TRAIN_TABLE, none as never), /^UserError: settings: \S+ is no object/);
});
