// The schema of settings files, held against the reader that it describes: what one takes or refuses, the other does.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Ajv } from "ajv";
import { parse } from "yaml";

import { UserError } from "../errors.js";
import { resolveSettings } from "../train/settings/settings.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const schema = JSON.parse(readFileSync(join(ROOT, "docs/settings.schema.json"), "utf8")) as {
  properties: Record<string, { description: string; default?: unknown }>;
};
// "strict" refuses words that are not the standard's; a type may be one of two.
const ajv = new Ajv({ strict: true, allowUnionTypes: true, allErrors: true, strictTypes: false });
const validate = ajv.compile(schema);

const folder = mkdtempSync(join(tmpdir(), "revmoe-schema-"));
after(() => rmSync(folder, { recursive: true }));

/** What the schema says against a text of YAML, by name of the setting. */
function complaints(text: string): string[] {
  validate(parse(text) ?? {});
  return (validate.errors ?? []).map(({ instancePath, params }) =>
    String(params.additionalProperty ?? instancePath.split("/")[1]),
  );
}

const REQUIRED = { model: "m", train_file: "t.jsonl", output_dir: "o" };

/** What the tool says against it, as a file beside flags for what it lacks. */
function refusal(text: string): string | null {
  const file = join(folder, "run.yaml");
  writeFileSync(file, text);
  try {
    const lacking = Object.entries(REQUIRED).filter(([name]) => !text.startsWith(`${name}:`));
    resolveSettings({ file, flags: Object.fromEntries(lacking) });
    return null;
  } catch (failure) {
    assert.ok(failure instanceof UserError, String(failure));
    return failure.message;
  }
}

test("every settings file in the repository is valid, and every default by itself", () => {
  const files = ["examples", "experiments", "docs"].flatMap((name) =>
    readdirSync(join(ROOT, name), { recursive: true, encoding: "utf8" })
      .filter((file) => /\.ya?ml$/.test(file))
      .map((file) => join(ROOT, name, file))
      // Manifests of Kubernetes hold none.
      .filter((file) => !/^apiVersion:/m.test(readFileSync(file, "utf8"))),
  );
  assert.ok(files.length > 0);
  for (const file of files) assert.deepEqual(complaints(readFileSync(file, "utf8")), [], file);
  for (const [name, { default: value, description }] of Object.entries(schema.properties)) {
    assert.ok(description.length > 10, name);
    if (value !== undefined) assert.ok(validate({ [name]: value }), `${name}: ${JSON.stringify(value)}`);
  }
});

test("what the tool refuses of a single setting, the schema refuses, and takes what it takes", () => {
  const right = [
    "learning_rate: 1e-5",
    "gamma: -1/256",
    "train_file: [a.jsonl, {file: b.parquet, weight: 0.3}]",
    "output_dir: 2024",
    "report_to: [tensorboard]",
    "report_to: none",
    "columns: {prompt: question}",
    "chat_template_kwargs: {enable_thinking: false, level: 3}",
    "device: cuda:1",
    "packing: false",
    "memory_limit: 8GiB",
    "freeze: 'model.embed_tokens.*'",
  ];
  for (const line of right) {
    assert.deepEqual(complaints(line), [], line);
    const said = refusal(line);
    assert.ok(said === null || !/is not possible|is unknown/.test(said), said ?? "");
  }
  const wrong = [
    ["learnin_rate", "learnin_rate: 1e-5"],
    ["learning_rate", "learning_rate: fast"],
    ["learning_rate", "learning_rate: -1"],
    ["max_steps", "max_steps: 1.5"],
    ["max_steps", "max_steps: '10'"],
    ["max_steps", "max_steps: 2000000000"],
    ["optimizer", "optimizer: adam"],
    ["packing", "packing: yes"],
    ["report_to", "report_to: [tensorboard, tensorboard]"],
    ["columns", "columns: {prompt: 3}"],
    ["device", "device: tpu"],
    ["output_dir", "output_dir: ''"],
    ["model", "model: [a]"],
  ];
  for (const [name, line] of wrong) {
    assert.ok(complaints(line).includes(name), line);
    assert.match(refusal(line) ?? "taken", /is not possible|is unknown/, line);
  }
});
