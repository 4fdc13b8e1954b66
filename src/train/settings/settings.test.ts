import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { parseSources } from "../../data/sources/parse.js";
import {
  describeSettings,
  helpText,
  resolveSettings,
  settingsMarkdown,
  TRAIN_TABLE,
  type TrainSettings,
} from "./settings.js";
import { OPTIMIZER_ROWS } from "../../optim/registry.js";
import { flagOf, isSame, type SettingRow } from "../../settings/table.js";
import { metavar, readEntry, showValue } from "../../settings/values.js";

const BASE = { model: "base", train_file: "train.jsonl", output_dir: "runs/a" };

// A change here is a change for everyone's scripts and configs: make it on purpose.
const FLAGS = `
--model FOLDER
--init-weights checkpoint|random = checkpoint
--train-file FILE...
--validation-file FILE... = ""
--validation-rows N = 0
--output-dir FOLDER
--overwrite-output-dir true|false = false
--format auto|messages|sharegpt|prompt_completion|alpaca|text|tokens = auto
--columns KEY=NAME,... = {}
--assistant-only-loss true|false = true
--completion-only-loss true|false = true
--train-on auto|assistant|last|completion|all = auto
--chat-template FILE = ""
--chat-template-kwargs KEY=VALUE,... = {}
--eos-token TOKEN = ""
--add-tokens TEXT,... = []
--add-special-tokens TEXT,... = []
--excess-length-strategy truncate|drop = truncate
--max-length N = 2048
--dataset-cache true|false = true
--packing true|false = true
--method reversible|checkpoint|checkpoint-offload|store = reversible
--parameters device|host|disk|sharded|sharded-disk = device
--fit true|false = false
--blocks-on-device N = 0
--durability snapshot|step = snapshot
--coupling momentum|bdia|additive|revffn|ordinary = momentum
--gamma X = -1/256
--gamma-final X = 0
--gamma-final-ratio X = 0.2
--blocks-per-step N = 1
--checkpoint-first-blocks N = 0
--checkpoint-last-blocks N = 0
--stored-bits device|host = device
--stream int32|int64|float32 = int32
--stream-fraction-bits N = 0
--weights-dtype auto|bfloat16|float32 = auto
--weights-correction none|8bit = none
--compute-dtype auto|bfloat16|float32 = auto
--device DEVICE = cpu
--threads N = 0
--tile-tokens N = 4096
--expert-group-size N = 0
--loss-tile-tokens N = 1024
--memory-limit SIZE = ""
--distill-steps N = 0
--distill-learning-rate X = 0
--distill-temperature X = 1
--reconstruction fixed_point|stored_hint = fixed_point
--fixed-point-iterations N = 10
--fixed-point-tolerance X = 0
--fixed-point-start output|zero = output
--fixed-point-damping X = 1
--fixed-point-anderson true|false = false
--adapter-sharing layer|stream = layer
--adapter-init random|identity = identity
--adapter-steps N = 0
--adapter-learning-rate X = 0
--learning-rate X = 1e-5
--lr-scheduler-type cosine|linear|constant|constant_with_warmup|warmup_stable_decay = cosine
--warmup-ratio X = 0.03
--warmup-steps N = 0
--min-lr-ratio X = 0.1
--decay-ratio X = 0.1
--weight-decay X = 0
--max-grad-norm X = 0
--max-block-grad-norm X = 1
--freeze NAME,... = []
--on-nonfinite stop|skip|rollback = stop
--nonfinite-limit N = 5
--spike-threshold X = 6
--spike-window N = 50
--router-aux-loss-coef X = 0
--router-aux-loss-type pooled|layer = pooled
--router-z-loss-coef X = 0
--router-jitter-noise X = 0
--router-bias-update-rate X = 0
--freeze-router true|false = false
--num-train-epochs X = 1
--shuffle true|false = true
--max-steps N = 0
--per-device-train-batch-size N = 4
--gradient-accumulation-steps N = 1
--per-device-eval-batch-size N = 4
--sample-prompts TEXT... = []
--sample-steps N = 0
--sample-tokens N = 64
--eval-strategy steps|epoch|no = steps
--eval-steps N = 0
--save-strategy steps|epoch|no = steps
--save-steps N = 0
--save-total-limit N = 0
--load-best-model-at-end true|false = false
--metric-for-best-model eval_loss|eval_mean_token_accuracy = eval_loss
--early-stopping-patience N = 0
--early-stopping-threshold X = 0
--disk-full-wait N = 10
--logging-steps N = 1
--report-to NAME,... = ["none"]
--run-name NAME = ""
--resume FOLDER = ""
--rank-timeout N = 1800
--rank-sums ordered|direct = ordered
--rank-transport gloo|nccl = gloo
--sequence-ranks N = 1
--share-experts weights|rows|auto = weights
--seed N = 42
`;

/** Of the optimizers; a new one may bring more (src/optim/registry.ts). */
const OPTIMIZER_FLAGS = `
--adam-beta1 X = 0.9
--adam-beta2 X = 0.95
--adam-epsilon X = 1e-8
--update-rms-clip X = 1
--factored-decay-rate X = 0.8
--adafactor-scale-parameter true|false = false
--sgd-momentum X = 0.9
--muon-momentum X = 0.95
--galore-rank N = 128
--galore-update-gap N = 200
--galore-scale X = 0.25
`;
const OPTIMIZER_CHOICES = ["adamw", "adamw8bit", "adafactor", "adalomo", "lomo", "sgd", "galore_adamw", "muon"];

const rows = Object.entries(TRAIN_TABLE.rows) as [string, SettingRow][];

test("the flags of train and their defaults are these", () => {
  const flagsOf = (some: typeof rows): string[] =>
    some.map(
      ([name, row]) => `${flagOf(name)} ${metavar(row)}${row.required === true ? "" : ` = ${showValue(row.default)}`}`,
    );
  const isOfOptimizers = ([name]: (typeof rows)[number]): boolean =>
    name === "optimizer" || Object.hasOwn(OPTIMIZER_ROWS, name);
  assert.deepEqual(flagsOf(rows.filter((row) => !isOfOptimizers(row))), FLAGS.trim().split("\n"));

  const theirs = flagsOf(rows.filter(isOfOptimizers));
  for (const flag of OPTIMIZER_FLAGS.trim().split("\n")) assert.ok(theirs.includes(flag), flag);
  const choices = /^--optimizer (\S+) = adamw$/.exec(theirs[0])?.[1].split("|") ?? [];
  for (const name of OPTIMIZER_CHOICES) assert.ok(choices.includes(name), name);
});

test("every default is possible, every row is explained in one line", () => {
  for (const [name, row] of rows) {
    if (row.required !== true)
      assert.ok(isSame(readEntry(row, { name, value: row.default, text: null, place: null }), row.default), name);
    assert.match(name, /^[a-z][a-z0-9_]*$/);
    assert.ok(row.about.length > 0 && !row.about.includes("\n") && !row.about.endsWith("."), name);
    assert.ok(row.group, name);
  }
});

test("what other trainers call a setting is no setting here, and the advice names one", () => {
  for (const [name, advice] of Object.entries(TRAIN_TABLE.elsewhere ?? {})) {
    assert.ok(!Object.hasOwn(TRAIN_TABLE.rows, name), name);
    assert.ok(
      rows.some(([known]) => advice.includes(known)),
      `${name}: ${advice}`,
    );
    assert.throws(() => resolveSettings({ flags: { ...BASE, [name]: "x" } }), {
      name: "UserError",
      message: `${flagOf(name)} is unknown. ${advice}`,
    });
  }
});

test("ranges of train's settings", () => {
  const refused: Record<string, string[]> = {
    max_length: ["1"],
    gamma: ["0.3", "0", "1", "1/3", "-1/512", "1/0"],
    learning_rate: ["0", "-1e-5"],
    adam_beta1: ["1"],
    adam_beta2: ["-0.1"],
    adam_epsilon: ["0"],
    warmup_ratio: ["1.5"],
    min_lr_ratio: ["-0.1"],
    num_train_epochs: ["0"],
    per_device_train_batch_size: ["0"],
    logging_steps: ["0"],
    loss_tile_tokens: ["0"],
    tile_tokens: ["-1"],
    seed: ["-1", "1.5"],
    device: ["gpu", "cuda:x"],
    stream_fraction_bits: ["-1", "53"],
    max_grad_norm: ["-0.5"],
    max_block_grad_norm: ["-1"],
    router_aux_loss_coef: ["-0.1"],
    router_z_loss_coef: ["-0.1"],
    router_jitter_noise: ["-0.1", "1"],
    router_bias_update_rate: ["-0.001"],
  };
  const allowed: Record<string, string[]> = {
    max_length: ["2"],
    gamma: ["-1", "-0.5", "0.5", "-0.25", "-0.125", "0.125", "0.00390625"],
    device: ["cpu", "cuda", "cuda:1"],
    adam_beta1: ["0"],
    num_train_epochs: ["0.5"],
    max_grad_norm: ["0.3"],
    max_block_grad_norm: ["0"],
    seed: ["0"],
    tile_tokens: ["0"],
  };
  for (const [name, values] of Object.entries(refused)) {
    for (const value of values) {
      assert.throws(
        () => resolveSettings({ flags: { ...BASE, [name]: value } }),
        { name: "UserError" },
        `${name} ${value}`,
      );
    }
  }
  for (const [name, values] of Object.entries(allowed)) {
    for (const value of values) {
      const settings: Record<string, unknown> = resolveSettings({ flags: { ...BASE, [name]: value } }).settings;
      assert.equal(String(settings[name]), value);
    }
  }
});

test("max_grad_norm alone is exactly that: the limit of each block's norm is off, unless it is given", () => {
  const limits = (flags: Record<string, string>): number[] => {
    const { max_grad_norm, max_block_grad_norm } = resolveSettings({ flags: { ...BASE, ...flags } }).settings;
    return [max_grad_norm, max_block_grad_norm];
  };
  assert.deepEqual(limits({}), [0, 1]);
  assert.deepEqual(limits({ max_grad_norm: "0.5" }), [0.5, 0]);
  assert.deepEqual(limits({ max_grad_norm: "0" }), [0, 0]);
  assert.deepEqual(limits({ max_grad_norm: "0", max_block_grad_norm: "2" }), [0, 2]);
  assert.deepEqual(limits({ max_grad_norm: "2", max_block_grad_norm: "0" }), [2, 0]);
});

test("without folder and file, all that is missing is named at once", () => {
  assert.throws(() => resolveSettings({}), {
    name: "UserError",
    message: "--model FOLDER, --train-file FILE..., --output-dir FOLDER are missing. See --help.",
  });
});

test("a list of sources, in a file or behind a flag, is kept as one text, which a record has too", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-sources-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "run.yaml");
  const list = "train_file:\n  - a.jsonl:0.7\n  - {file: b.csv, weight: 0.3, columns: {prompt: q}}\n";
  writeFileSync(file, `model: m\noutput_dir: o\n${list}validation_file: [c.jsonl, d.jsonl]\n`);
  const { settings } = resolveSettings({ file });
  assert.deepEqual(parseSources(settings.train_file), [
    { file: "a.jsonl", weight: 0.7 },
    { file: "b.csv", weight: 0.3, columns: { prompt: "q" } },
  ]);
  assert.equal(settings.validation_file, "c.jsonl,d.jsonl");
  writeFileSync(join(folder, "config.json"), JSON.stringify(settings));
  assert.deepEqual(resolveSettings({ file: join(folder, "config.json") }).settings, settings);
  assert.equal(
    resolveSettings({ flags: { ...BASE, train_file: ["a.jsonl", "b.csv"] } }).settings.train_file,
    "a.jsonl,b.csv",
  );
  assert.throws(() => resolveSettings({ flags: { ...BASE, model: ["a", "b"] } }), {
    name: "UserError",
    message: /^--model/,
  });
});

test("the record survives JSON", () => {
  const { settings } = resolveSettings({
    flags: { ...BASE, learning_rate: "2e-5", columns: "prompt=question,completion=answer" },
  });
  assert.deepEqual(JSON.parse(JSON.stringify(settings)) as TrainSettings, settings);
  assert.equal(settings.learning_rate, 2e-5);
  assert.deepEqual(settings.columns, { prompt: "question", completion: "answer" });
});

test("a run's start says model, data, output, and what is not the default", () => {
  const { settings } = resolveSettings({
    flags: { ...BASE, learning_rate: "2e-5", packing: false, columns: "prompt=question", max_length: "2048" },
  });
  assert.equal(
    describeSettings(settings),
    [
      "model          base",
      "train_file     train.jsonl",
      "output_dir     runs/a",
      "columns        prompt=question",
      "packing        false",
      "learning_rate  2e-5",
    ].join("\n"),
  );
});

test("help shows every flag once, in at most 100 columns", () => {
  const lines = helpText(TRAIN_TABLE).split("\n");
  for (const line of lines) assert.ok(line.length <= 100, line);
  for (const [name, row] of rows) {
    const flag = row.kind === "boolean" ? `--[no-]${flagOf(name).slice(2)}` : `${flagOf(name)} ${metavar(row)}`;
    assert.equal(lines.filter((line) => line === `  ${flag}` || line.startsWith(`  ${flag}  `)).length, 1, name);
  }
  assert.ok(
    helpText(TRAIN_TABLE).includes(
      [
        "  --device DEVICE               where to compute: cpu, cuda or cuda:N (default cpu)",
        "  --threads N                   CPU threads; 0: all cores (default 0)",
      ].join("\n"),
    ),
  );
  assert.ok(
    helpText(TRAIN_TABLE).startsWith(
      "Model and data\n  --model FOLDER                folder of a Hugging Face checkpoint or of a run, a .gguf file, or a\n",
    ),
  );
});

test("the docs' tables hold every setting, with bars escaped", () => {
  const markdown = settingsMarkdown();
  for (const [name] of rows) assert.equal(markdown.split(`\n| \`${name}\` |`).length, 2, name);
  assert.ok(
    markdown.startsWith(
      "### Model and data\n\n| setting | value | default | what it is |\n| --- | --- | --- | --- |\n",
    ),
  );
  assert.ok(markdown.includes("| `threads` | an integer from 0 to 1024 | `0` | CPU threads; 0: all cores |\n"));
  assert.ok(
    markdown.includes(
      "| `validation_file` | a text | none | rows to evaluate on, never trained on; named as train_file |\n",
    ),
  );
  for (const line of markdown.split("\n").filter((text) => text.startsWith("|")))
    assert.equal(line.split("|").length, 6, line);
});

test("absurd numbers are refused with what is possible", () => {
  for (const [name, value, expected] of [
    ["max_length", 2147483647, "an integer from 2 to 16777216"],
    ["gradient_accumulation_steps", 1e15, "an integer from 1 to 65536"],
    ["num_train_epochs", 1e300, "a number above 0 and of at most 1000000"],
    ["threads", 1e9, "an integer from 0 to 1024"],
    ["save_steps", 1e12, "an integer from 0 to 1000000000"],
  ] as const) {
    const flags = { model: "m", train_file: "t", output_dir: "o", [name]: value };
    assert.throws(() => resolveSettings({ flags }), {
      name: "UserError",
      message: new RegExp(`is not possible \\(expected ${expected}\\)`),
    });
  }
  const flags = { model: "m", train_file: "t", output_dir: "o", max_length: 2 ** 20, per_device_train_batch_size: 64 };
  assert.throws(() => resolveSettings({ flags }), {
    name: "UserError",
    message: /makes micro-batches of 67108864 tokens .*Set fewer rows/,
  });
});

test("every whole number has a bound", () => {
  for (const [name, row] of rows) {
    if (row.kind !== "integer" || name === "seed") continue;
    const flags = { model: "m", train_file: "t", output_dir: "o", [name]: 2 ** 40 };
    assert.throws(() => resolveSettings({ flags }), { name: "UserError", message: /is not possible/ }, name);
  }
});
