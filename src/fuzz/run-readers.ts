// Readers of a run's input and of what it leaves: flags, the settings file, the state of a checkpoint, its metrics.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { readProgress } from "../checkpoint/run/state.js";
import { parseFlags } from "../cli/flags.js";
import type { Command } from "../commands/command.js";
import { COMMANDS as REGISTRY } from "../commands/registry.js";
import { UserError } from "../errors.js";
import { type Place, readPiece } from "../dashboard/tail.js";
import { jsonlSink } from "../metrics/sinks/jsonl.js";
import { resolveTable } from "../settings/resolve.js";
import { flagOf } from "../settings/table.js";
import { describeSettings, resolveSettings } from "../train/settings/settings.js";
import { mutateJson } from "./mutate-json.js";
import { mutateLines, mutateYaml } from "./mutate-text.js";
import type { Random } from "./random.js";
import { bytesOf, type Reader, textOf } from "./reader.js";

const COMMANDS = new Map(
  await Promise.all(Object.entries(REGISTRY).map(async ([name, { load }]) => [name, await load()] as const)),
);

const YAML = `model: m
train_file: t.jsonl
output_dir: out
max_length: 512
learning_rate: 1e-5
num_train_epochs: 2.5
gamma: -1/16
optimizer: adamw
columns:
  prompt: question
  completion: answer
packing: true
gradient_accumulation_steps: 4
seed: 7
`;

export const settingsReader: Reader = {
  name: "settings file",
  seeds: () => [
    bytesOf(YAML),
    bytesOf({ model: "m", train_file: "t", output_dir: "o", gamma: 0.5, columns: { a: "b" } }),
  ],
  mutate: (seed, random) => (seed[0] === 123 ? mutateJson(seed, random) : mutateYaml(seed, random)),
  open: (folder) => (input) => {
    const path = join(folder, "run.yaml");
    writeFileSync(path, input);
    describeSettings(resolveSettings({ file: path }).settings);
  },
};

const VALUES = [
  "",
  "0",
  "-1",
  "1e308",
  "1e999",
  "NaN",
  "true",
  "false",
  "--",
  "-",
  "1/0",
  "1/3",
  "a=b,c",
  "=",
  ",",
  "1,2,2",
  "4,4",
  "\u0000",
  "\ud800",
  "../..",
  "999999999999999",
  "2147483647",
  "1e15",
  "x".repeat(10_000),
];

/** Mutates words that are separated by newlines, the command first. */
function mutateWords(seed: Uint8Array, random: Random): Uint8Array {
  const [name, ...words] = textOf(seed).split("\n");
  const rows = COMMANDS.get(name)?.settings.rows ?? {};
  for (let left = random.few(); left > 0; left--) {
    const at = random.below(words.length + 1);
    const flag = flagOf(random.pick(Object.keys(rows)));
    const form = random.below(6);
    if (form === 0) words.splice(at, 1);
    else if (form === 1) words.splice(at, 0, random.pick(VALUES));
    else if (form === 2) words.splice(at, 0, `${flag}=${random.pick(VALUES)}`);
    else if (form === 3) words.push(flag, random.pick(VALUES));
    else if (form === 4) words.splice(at, 0, flag.replace("--", random.pick(["--no-", "-", "---", "--__proto__"])));
    else words.push(flag, String(random.pick([0, 1, 2, 7, 0.5, 1e6, 1e9, 2 ** 31, 2 ** 53 - 1, -3])));
  }
  return bytesOf([name, ...words].join("\n"));
}

const FLAGS = [
  "train\n--model\nm\n--train-file\nt.jsonl\n--output-dir\nout\n--max-length\n64",
  "plan\n--model\nm\n--memory\n8GiB",
  "bench\n--model\nm\n--layers\n2,4\n--methods\nstore,reversible",
];

/** The fewest words with which a command with settings can be called. */
function requiredFlags({ name, settings: { rows } }: Command): string[] {
  const required = Object.keys(rows).filter((each) => rows[each].required === true);
  const words = [name, ...required.flatMap((each) => [flagOf(each), "m"])];
  return Object.keys(rows).length === 0 ? [] : [words.join("\n")];
}

export const flagsReader: Reader = {
  name: "flags",
  seeds: () => [...FLAGS, ...[...COMMANDS.values()].flatMap(requiredFlags)].map(bytesOf),
  mutate: mutateWords,
  open: () => (input) => {
    const [name, ...words] = textOf(input).split("\n");
    const command = COMMANDS.get(name);
    if (command === undefined) throw new UserError(`"${name}" is no command.`);
    const { flags } = parseFlags(command, words);
    resolveTable(command.settings, { flags });
  },
};

export const stateReader: Reader = {
  name: "trainer_state.json",
  seeds: () => [
    bytesOf({
      version: 1,
      step: 3,
      batches: { epoch: 0, position: 3 },
      settings: { model: "m", seed: 42 },
      generators: { cpu: "AAAA" },
    }),
    bytesOf({ version: 1, step: 0, batches: { epoch: 2, position: 0 }, settings: {}, generators: null }),
  ],
  mutate: mutateJson,
  open: (folder) => (input) => {
    writeFileSync(join(folder, "trainer_state.json"), input);
    readProgress(join(folder, "trainer_state.json"));
  },
};

const METRICS = [1, 2, 3, 4]
  .map((step) => JSON.stringify({ kind: "step", step, loss: 2.5, learningRate: 1e-5 }))
  .join("\n");

export const metricsReader: Reader = {
  name: "metrics.jsonl",
  seeds: () => [bytesOf(`${METRICS}\n`), bytesOf(METRICS)],
  mutate: (seed, random) =>
    random.oneIn(2)
      ? mutateLines(seed, random)
      : bytesOf(`${textOf(mutateJson(bytesOf(METRICS.split("\n")[0]), random))}\n${METRICS}\n`),
  open: (folder) => (input) => {
    const path = join(folder, "metrics.jsonl");
    writeFileSync(path, input);
    jsonlSink(path, { resumeStep: 2 }).close();
  },
};

export const dashboardReader: Reader = {
  ...metricsReader,
  name: "metrics.jsonl of the dashboard",
  open: (folder) => (input) => {
    const path = join(folder, "metrics.jsonl");
    writeFileSync(path, input);
    // Reads pieces as small as a line, so that cuts fall everywhere; each piece must end after it begins.
    let place: Place = { file: "", offset: 0 };
    for (let more = true; more; ) {
      const piece = readPiece(path, place, 64);
      if (piece.more && piece.offset <= place.offset)
        throw new Error(`a piece ends where it begins, at ${place.offset}`);
      [place, more] = [piece, piece.more];
    }
  },
};
