import assert from "node:assert/strict";
import { test } from "node:test";

import type { SettingRow, SettingValue } from "./table.js";
import { expectation, metavar, readEntry, showValue } from "./values.js";

const about = "";
const fromFlag = (row: SettingRow, value: unknown): SettingValue =>
  readEntry(row, { name: "some_name", value, text: null, place: null });
const fromFile = (row: SettingRow, value: unknown, text: string): SettingValue =>
  readEntry(row, { name: "some_name", value, text, place: "run.yaml:7:" });

const ROWS = {
  text: { kind: "string", default: "", about },
  folder: { kind: "string", required: true, metavar: "FOLDER", about },
  device: { kind: "string", default: "cpu", pattern: /^(cpu|cuda)$/, expected: "cpu or cuda", about },
  integer: { kind: "integer", default: 1, min: 1, about },
  positive: { kind: "number", default: 1, above: 0, about },
  share: { kind: "number", default: 0, min: 0, max: 1, about },
  beta: { kind: "number", default: 0.9, min: 0, below: 1, about },
  gamma: { kind: "number", default: 0.25, oneOf: [-1, 0.25], about },
  any: { kind: "number", default: 0, about },
  switch: { kind: "boolean", default: true, about },
  choice: { kind: "choice", choices: ["momentum", "additive"], default: "momentum", about },
  single: { kind: "choice", choices: ["adamw"], default: "adamw", about },
  map: { kind: "map", default: {}, about },
  depths: { kind: "integer", list: true, default: [], min: 1, about },
  values: { kind: "values", default: {}, about },
  words: { kind: "string", list: true, default: [], about },
  methods: { kind: "choice", choices: ["store", "reversible"], list: true, default: ["store"], about },
} as const satisfies Record<string, SettingRow>;

test("a flag's words become values", () => {
  const cases: [SettingRow, string, SettingValue][] = [
    [ROWS.text, "", ""],
    [ROWS.text, "2024", "2024"],
    [ROWS.device, "cuda", "cuda"],
    [ROWS.integer, "12", 12],
    [ROWS.integer, "1e3", 1000],
    [ROWS.positive, "1e-5", 1e-5],
    [ROWS.positive, "1.0E-5", 1e-5],
    [ROWS.positive, ".5", 0.5],
    [ROWS.positive, "+2.", 2],
    [ROWS.gamma, "-1", -1],
    [ROWS.switch, "true", true],
    [ROWS.switch, "false", false],
    [ROWS.choice, "additive", "additive"],
    [ROWS.map, "", {}],
    [ROWS.map, "prompt=question, completion=a=b", { prompt: "question", completion: "a=b" }],
  ];
  for (const [row, words, value] of cases) assert.deepEqual(fromFlag(row, words), value, words);
});

test("values by key keep their types: as pairs, as JSON, or in a file", () => {
  const value = { enable_thinking: false, budget: 12, name: "a b" };
  assert.deepEqual(fromFlag(ROWS.values, "enable_thinking=false,budget=12,name=a b"), value);
  assert.deepEqual(fromFlag(ROWS.values, JSON.stringify(value)), value);
  assert.deepEqual(fromFile(ROWS.values, value, "{...}"), value);
  assert.deepEqual(fromFlag(ROWS.values, ""), {});
  assert.equal(showValue(value), 'enable_thinking=false,budget=12,name="a b"');
  assert.equal(metavar(ROWS.values), "KEY=VALUE,...");
  for (const words of ["a", "a=", "{a}", '{"a": [1]}', '{"a": null}', "[1]", "a=1,a=2"])
    assert.throws(
      () => fromFlag(ROWS.values, words),
      /is not possible \(expected texts, numbers, true or false by key/,
    );
});

test("a list of texts takes words with commas between, and none", () => {
  assert.deepEqual(fromFlag(ROWS.words, "<a>, model.*"), ["<a>", "model.*"]);
  assert.deepEqual(fromFile(ROWS.words, ["a,b", "c"], "[...]"), ["a,b", "c"]);
  assert.deepEqual(fromFile(ROWS.words, [], "[]"), []);
  assert.throws(() => fromFlag(ROWS.words, "a,a"), /each once/);
});

test("a list takes several values, each once: words with commas, an array, or one value", () => {
  assert.deepEqual(fromFlag(ROWS.depths, "4,24, 48"), [4, 24, 48]);
  assert.deepEqual(fromFlag(ROWS.depths, [4, 24]), [4, 24]);
  assert.deepEqual(fromFlag(ROWS.depths, []), []);
  assert.deepEqual(fromFile(ROWS.depths, 4, "4"), [4]);
  assert.deepEqual(fromFile(ROWS.methods, ["reversible", "store"], "[reversible, store]"), ["reversible", "store"]);
  assert.equal(metavar(ROWS.methods), "store|reversible,...");
  const expected = "(expected an integer of at least 1; several with commas between, each once).";
  for (const words of ["4,,8", "4,4", "4,0", "", "4;8"]) {
    const written = words === "" ? '""' : words;
    assert.throws(() => fromFlag(ROWS.depths, words), {
      message: `--some-name ${written} is not possible ${expected}`,
    });
  }
  assert.throws(() => fromFlag(ROWS.methods, "store,reversibel"), /Did you mean reversible\?$/);
  assert.throws(() => fromFlag(ROWS.methods, []), /is not possible/);
});

test("a program may give values in their own types", () => {
  assert.equal(fromFlag(ROWS.positive, 1e-5), 1e-5);
  assert.equal(fromFlag(ROWS.switch, false), false);
  assert.deepEqual(fromFlag(ROWS.map, { prompt: "q" }), { prompt: "q" });
});

test("in a file, a number's own words name a folder, and types are the file's", () => {
  assert.equal(fromFile(ROWS.folder, 2024.1, "2024.10"), "2024.10");
  assert.equal(fromFile(ROWS.positive, 1e-5, "1.0e-5"), 1e-5);
  assert.equal(fromFile(ROWS.positive, "1/256", "1/256"), 2 ** -8);
  assert.equal(fromFlag(ROWS.share, "+3/4"), 0.75);
  assert.throws(() => fromFlag(ROWS.integer, "4/2"), /expected an integer/);
  assert.throws(() => fromFlag(ROWS.positive, "-1/4"), /expected a number above 0/);
});

test("a flag's impossible value is refused with what was expected", () => {
  const cases: [SettingRow, unknown, string][] = [
    [ROWS.folder, "", 'some-name "" is not possible (expected a text that is not empty).'],
    [ROWS.device, "gpu", "some-name gpu is not possible (expected cpu or cuda)."],
    [ROWS.integer, "1.5", "some-name 1.5 is not possible (expected an integer of at least 1)."],
    [ROWS.integer, "0", "some-name 0 is not possible (expected an integer of at least 1)."],
    [ROWS.integer, "0x10", "some-name 0x10 is not possible (expected an integer of at least 1)."],
    [ROWS.integer, "", 'some-name "" is not possible (expected an integer of at least 1).'],
    [
      ROWS.integer,
      "9007199254740993",
      "some-name 9007199254740993 is not possible (expected an integer from 1 to 1000000000).",
    ],
    [ROWS.positive, "0", "some-name 0 is not possible (expected a number above 0)."],
    [ROWS.positive, "Infinity", "some-name Infinity is not possible (expected a number above 0)."],
    [ROWS.positive, "1e999", "some-name 1e999 is not possible (expected a number above 0)."],
    [ROWS.share, "1.1", "some-name 1.1 is not possible (expected a number from 0 to 1)."],
    [ROWS.beta, "1", "some-name 1 is not possible (expected a number of at least 0 and below 1)."],
    [ROWS.gamma, "0.3", "some-name 0.3 is not possible (expected one of -1, 0.25)."],
    [ROWS.any, Number.NaN, "some-name NaN is not possible (expected a number)."],
    [ROWS.switch, "yes", "some-name yes is not possible (expected true or false)."],
    [
      ROWS.choice,
      "momentm",
      "some-name momentm is not possible (expected one of momentum, additive). Did you mean momentum?",
    ],
    [ROWS.choice, "leapfrog", "some-name leapfrog is not possible (expected one of momentum, additive)."],
    [ROWS.single, "sgd", "some-name sgd is not possible (expected adamw)."],
    [ROWS.map, "prompt", "some-name prompt is not possible (expected names by key, as key=name,key=name)."],
    [ROWS.map, "a=b,a=c", "some-name a=b,a=c is not possible (expected names by key, as key=name,key=name)."],
  ];
  for (const [row, value, message] of cases)
    assert.throws(() => fromFlag(row, value), { name: "UserError", message: `--${message}` });
});

test("a file's impossible value is refused with its place", () => {
  const cases: [SettingRow, unknown, string, string][] = [
    [
      ROWS.positive,
      "1e-5",
      '"1e-5"',
      'run.yaml:7: some_name "1e-5" is not possible (expected a number above 0). Remove the quotes.',
    ],
    [ROWS.positive, "fast", "fast", "run.yaml:7: some_name fast is not possible (expected a number above 0)."],
    [ROWS.switch, "yes", "yes", "run.yaml:7: some_name yes is not possible (expected true or false)."],
    [ROWS.switch, 1, "1", "run.yaml:7: some_name 1 is not possible (expected true or false)."],
    [ROWS.text, true, "true", "run.yaml:7: some_name true is not possible (expected a text)."],
    [
      ROWS.positive,
      Number.POSITIVE_INFINITY,
      ".inf",
      "run.yaml:7: some_name .inf is not possible (expected a number above 0).",
    ],
    [
      ROWS.choice,
      null,
      "",
      "run.yaml:7: some_name has no value (expected one of momentum, additive). Give one, or remove the line.",
    ],
  ];
  for (const [row, value, text, message] of cases)
    assert.throws(() => fromFile(row, value, text), { name: "UserError", message });
  const list = { name: "some_name", value: ["a"], text: null, place: "run.yaml:7:" };
  assert.throws(() => readEntry(ROWS.map, list), {
    message: 'run.yaml:7: some_name ["a"] is not possible (expected names by key, as key=name,key=name).',
  });
});

test("rows and values as words", () => {
  assert.equal(expectation(ROWS.integer), "an integer of at least 1");
  assert.deepEqual(
    [ROWS.text, ROWS.folder, ROWS.integer, ROWS.positive, ROWS.switch, ROWS.choice, ROWS.map].map(metavar),
    ["TEXT", "FOLDER", "N", "X", "true|false", "momentum|additive", "KEY=NAME,..."],
  );
  assert.deepEqual(
    [
      0.00001,
      2.5e-4,
      0.001,
      0,
      -1,
      -1 / 256,
      0.0625,
      0.25,
      "",
      "a b",
      "ab",
      true,
      {},
      { prompt: "q", text: "a b" },
    ].map(showValue),
    [
      "1e-5",
      "2.5e-4",
      "0.001",
      "0",
      "-1",
      "-1/256",
      "1/16",
      "0.25",
      '""',
      '"a b"',
      "ab",
      "true",
      "{}",
      'prompt=q,text="a b"',
    ],
  );
});
