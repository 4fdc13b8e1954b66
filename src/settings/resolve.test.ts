import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { resolveTable } from "./resolve.js";
import type { SettingRows, SettingsOf, SettingsTable, SettingValue } from "./table.js";

const ROWS = {
  model: { kind: "string", required: true, metavar: "FOLDER", about: "folder of a checkpoint" },
  max_new_tokens: { kind: "integer", default: 64, min: 1, about: "tokens at most" },
  temperature: { kind: "number", default: 0, min: 0, about: "0: always the likeliest" },
  stream: { kind: "boolean", default: true, about: "print as it comes" },
  style: { kind: "choice", choices: ["plain", "chat"], default: "plain", about: "of the prompt" },
  names: { kind: "map", default: {}, about: "by key" },
} as const satisfies SettingRows;
const TABLE: SettingsTable<typeof ROWS> = { rows: ROWS, elsewhere: { max_tokens: "Use max_new_tokens." } };

const folder = mkdtempSync(join(tmpdir(), "revmoe-resolve-"));
after(() => rmSync(folder, { recursive: true }));
const write = (source: string, name = "run.yaml"): string => {
  const path = join(folder, name);
  writeFileSync(path, source);
  return path;
};

test("a flag goes before the file, the file before the default", () => {
  const file = write("model: from-file\nmax_new_tokens: 10\nstream: false\n");
  const { settings, given } = resolveTable(TABLE, { file, flags: { "max-new-tokens": "20", names: "a=b" } });
  assert.deepEqual(settings, {
    model: "from-file",
    max_new_tokens: 20,
    temperature: 0,
    stream: false,
    style: "plain",
    names: { a: "b" },
  });
  assert.deepEqual([...given].sort(), ["max_new_tokens", "model", "names", "stream"]);
});

test("the record is in the table's order, whatever order things came in", () => {
  const { settings } = resolveTable(TABLE, { flags: { style: "chat", model: "m" } });
  assert.deepEqual(Object.keys(settings), Object.keys(ROWS));
});

test("the record's type follows from the rows", () => {
  const settings: SettingsOf<typeof ROWS> = resolveTable(TABLE, { flags: { model: "m" } }).settings;
  const style: "plain" | "chat" = settings.style;
  const [tokens, stream, name]: [number, boolean, string | undefined] = [
    settings.max_new_tokens,
    settings.stream,
    settings.names.a,
  ];
  assert.deepEqual([style, tokens, stream, name], ["plain", 64, true, undefined]);
  // @ts-expect-error: no other choice is known
  const other: "code" = settings.style;
  assert.equal(other, "plain");
});

test("an unknown name is refused with the nearest known one", () => {
  const cases: [Record<string, string>, string][] = [
    [{ model: "m", max_new_token: "1" }, "--max-new-token is unknown. Did you mean --max-new-tokens?"],
    [{ model: "m", max_tokens: "1" }, "--max-tokens is unknown. Use max_new_tokens."],
    [{ model: "m", quantisation: "1" }, "--quantisation is unknown. See the known ones with --help."],
    [{ model: "m", constructor: "1" }, "--constructor is unknown. See the known ones with --help."],
  ];
  for (const [flags, message] of cases)
    assert.throws(() => resolveTable(TABLE, { flags }), { name: "UserError", message });
  const file = write("model: m\ntemprature: 1\n");
  assert.throws(() => resolveTable(TABLE, { file }), {
    name: "UserError",
    message: `${file}:2: temprature is unknown. Did you mean temperature?`,
  });
});

test("a value given in both places is checked in both only where it counts", () => {
  const file = write("model: m\ntemperature: hot\n");
  assert.throws(() => resolveTable(TABLE, { file }), {
    message: `${file}:2: temperature hot is not possible (expected a number of at least 0).`,
  });
  assert.equal(resolveTable(TABLE, { file, flags: { temperature: "1" } }).settings.temperature, 1);
});

test("what is missing is named", () => {
  assert.throws(() => resolveTable(TABLE, {}), {
    name: "UserError",
    message: "--model FOLDER is missing (expected a text that is not empty: folder of a checkpoint). See --help.",
  });
  const file = write("temperature: 1\n");
  assert.throws(() => resolveTable(TABLE, { file }), {
    name: "UserError",
    message: `${file}: model is missing. Add to the file, or give --model FOLDER.`,
  });
});

test("in a run's own record, a default counts as not given", () => {
  const record = { model: "m", max_new_tokens: 64, temperature: 0.5, stream: true, style: "plain", names: {} };
  const { settings, given } = resolveTable(TABLE, { file: write(JSON.stringify(record, null, 2), "config.json") });
  assert.deepEqual(settings, record);
  assert.deepEqual([...given], ["model", "temperature"]);
});

test("another default holds where the setting it follows is given, but not over a run's own record of both", () => {
  const { temperature: own, ...rest } = ROWS;
  const temperature = {
    ...own,
    otherwise: [
      { given: "style", when: { style: "chat", stream: true }, value: 1 },
      { given: "max_new_tokens", value: 2 },
    ],
  } as const;
  const table = { rows: { ...rest, temperature } };
  const chosen = (flags: Record<string, SettingValue>, file?: string): unknown =>
    resolveTable(table, { file, flags: { model: "m", ...flags } }).settings.temperature;
  assert.deepEqual([chosen({}), chosen({ style: "plain" }), chosen({ style: "chat" })], [0, 0, 1]);
  assert.deepEqual([chosen({ max_new_tokens: 1 }), chosen({ max_new_tokens: 1, style: "chat" })], [2, 1]);
  assert.deepEqual([chosen({ style: "chat", temperature: 0 }), chosen({ style: "chat", stream: false })], [0, 0]);
  const record = write(JSON.stringify({ temperature: 0, style: "chat" }), "config.json");
  assert.deepEqual([chosen({}, record), chosen({ max_new_tokens: 1, style: "plain" }, record)], [0, 2]);
});

test("a table's own check sees values, what was given, and how to speak of it", () => {
  const table: SettingsTable<typeof ROWS> = {
    rows: ROWS,
    check: ({ style, stream }, given) =>
      style === "chat" && !stream
        ? [
            given.subject("stream"),
            given.mention("stream"),
            given.subject("style"),
            given.mention("style"),
            given.mention("names"),
          ].join(" | ")
        : undefined,
  };
  const file = write("model: m\nstyle: 'chat'\n");
  assert.throws(() => resolveTable(table, { file, flags: { stream: false } }), {
    message: `--no-stream | --no-stream | ${file}:2: style 'chat' | style 'chat' (${file}:2) | names {} (the default)`,
  });
});
