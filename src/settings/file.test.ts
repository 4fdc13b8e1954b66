import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { readSettingsFile } from "./file.js";

const folder = mkdtempSync(join(tmpdir(), "revmoe-settings-"));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, "run.yaml");
const read = (source: string): [string, unknown, string | null, string][] => {
  writeFileSync(path, source);
  return readSettingsFile(path).map(({ name, value, text, place }) => [
    name,
    value,
    text,
    place.replace(path, "run.yaml"),
  ]);
};

test("values come with their own words and their place", () => {
  const source = `# a run
model: base
learning_rate: 1.0e-5
adam_epsilon: 1e-8
output_dir: "runs/a b"   # quoted
columns:
  prompt: question
  completion: answer
packing: false
resume:
`;
  assert.deepEqual(read(source), [
    ["model", "base", "base", "run.yaml:2:"],
    ["learning_rate", 1e-5, "1.0e-5", "run.yaml:3:"],
    ["adam_epsilon", 1e-8, "1e-8", "run.yaml:4:"],
    ["output_dir", "runs/a b", '"runs/a b"', "run.yaml:5:"],
    ["columns", { prompt: "question", completion: "answer" }, null, "run.yaml:6:"],
    ["packing", false, "false", "run.yaml:9:"],
    ["resume", null, null, "run.yaml:10:"],
  ]);
});

test("JSON, anchors, Windows line ends, a byte order mark and an empty file are fine", () => {
  assert.deepEqual(read('{"model": "base",\n "seed": 3}'), [
    ["model", "base", '"base"', "run.yaml:1:"],
    ["seed", 3, "3", "run.yaml:2:"],
  ]);
  assert.deepEqual(read("train_file: &f a.jsonl\nvalidation_file: *f\n")[1].slice(0, 2), [
    "validation_file",
    "a.jsonl",
  ]);
  assert.deepEqual(read("\ufeffmodel: base\r\nseed: 1\r\n"), [
    ["model", "base", "base", "run.yaml:1:"],
    ["seed", 1, "1", "run.yaml:2:"],
  ]);
  assert.deepEqual(read("# nothing yet\n"), []);
});

test("a file that is no map of settings is refused with the line", () => {
  const cases: [string, string][] = [
    ["seed: 1\nmodel: a\nseed: 2\n", ":3: seed is given a second time. Remove one of the two lines."],
    ['seed: 1\n"seed": 2\n', ":2: seed is given a second time. Remove one of the two lines."],
    ["- seed\n", ':1: not a map of settings (expected lines such as "learning_rate: 1e-5").'],
    ["\nseed\n", ':2: not a map of settings (expected lines such as "learning_rate: 1e-5").'],
    [
      "seed: 1\n---\nseed: 2\n",
      ":2: a second document begins (expected one map of settings). Remove the line with ---, or what follows it.",
    ],
    [
      "model: a\n\tseed: 2\n",
      ":2: not valid YAML: Tabs are not allowed as indentation. Mend the line, or the one before it.",
    ],
    [
      "model: *nowhere\n",
      ":1: not valid YAML: Unresolved alias (the anchor must be set before the alias): nowhere. Write the value out.",
    ],
  ];
  for (const [source, message] of cases)
    assert.throws(() => read(source), { name: "UserError", message: path + message });
});

test("a path that is no file is refused", () => {
  const missing = join(folder, "none.yaml");
  assert.throws(() => readSettingsFile(missing), {
    name: "UserError",
    message: `${missing}: there is no such settings file. Check the path, or give the settings as flags.`,
  });
  for (const name of ["rows.jsonl", "rows.csv.gz", "Rows.PARQUET"]) {
    const rows = join(folder, name);
    writeFileSync(rows, '{"text": "a"}\n');
    const message = `${rows}: rows, by its name (expected a YAML file of settings). Give rows as train_file.`;
    assert.throws(() => readSettingsFile(rows), { name: "UserError", message });
  }
  assert.throws(() => readSettingsFile(folder), {
    name: "UserError",
    message: `${folder}: is a folder (expected a YAML file of settings). Name the file inside it.`,
  });
});
