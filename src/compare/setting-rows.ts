// The settings of `bench`, each once. Those that a training run has, too, come from the table of `train`, so new
// couplings and optimizers appear here by themselves. Some become lists; every combination of the lists is a row.
import { MOST } from "../families/config-reader.js";
import { LONGEST } from "../settings/limits.js";
import { DEFAULT_COUPLING } from "../reversible/couplings/registry.js";
import { COMPARED_METHODS } from "../reversible/methods/registry.js";
import { SIZE_OR_NONE } from "../settings/size.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { SettingRows, SettingsOf } from "../settings/table.js";

const COMPARED = "What is compared";
const WORK = "The work";
const MACHINE = "Machine and measurement";

const row = TRAIN_ROWS;

export const BENCH_ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER|FILE",
    group: COMPARED,
    about: "folder of a Hugging Face checkpoint, or a config.json, which gets random weights",
  },
  methods: {
    kind: "choice",
    choices: row.method.choices,
    list: true,
    default: COMPARED_METHODS,
    group: COMPARED,
    about: row.method.about,
  },
  coupling: {
    kind: "choice",
    choices: ["auto", ...row.coupling.choices],
    list: true,
    default: ["auto"],
    group: COMPARED,
    about: `coupling of the compared networks; auto: ${DEFAULT_COUPLING} for method reversible, ordinary for the others`,
  },
  gamma: {
    kind: "number",
    oneOf: row.gamma.oneOf,
    expected: row.gamma.expected,
    list: true,
    default: [row.gamma.default],
    group: COMPARED,
    about: row.gamma.about,
  },
  optimizer: {
    kind: "choice",
    choices: row.optimizer.choices,
    list: true,
    default: [row.optimizer.default],
    group: COMPARED,
    about: row.optimizer.about,
  },
  layers: {
    kind: "integer",
    min: 1,
    max: MOST.layers,
    list: true,
    default: [],
    group: COMPARED,
    about:
      "numbers of blocks to compare; a number other than the model's own gets random weights; none: the model's own number",
  },
  max_length: {
    kind: "integer",
    min: 2,
    max: LONGEST,
    list: true,
    default: [512],
    group: COMPARED,
    about: "number of tokens in a row",
  },

  train_file: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: WORK,
    about: "rows to train on, as in revmoe train; none: random tokens drawn from seed",
  },
  per_device_train_batch_size: { ...row.per_device_train_batch_size, group: WORK },
  gradient_accumulation_steps: { ...row.gradient_accumulation_steps, group: WORK },
  stream: { ...row.stream, group: WORK },
  weights_dtype: {
    ...row.weights_dtype,
    group: WORK,
    about: "data type of the weights; auto: as in the checkpoint, or as config.json says for random weights",
  },
  compute_dtype: { ...row.compute_dtype, group: WORK },
  loss_tile_tokens: { ...row.loss_tile_tokens, group: WORK },
  seed: { ...row.seed, group: WORK, about: "seed for random weights and random tokens" },

  steps: {
    kind: "integer",
    default: 6,
    min: 1,
    group: MACHINE,
    about:
      "number of measured steps for each line of the table, after one that is not measured; lines of equal depth take turns, and times are medians",
  },
  gradients: {
    kind: "boolean",
    default: true,
    group: MACHINE,
    about: "compare all gradients with those of method store; this needs a temporary file of 4 bytes per parameter",
  },
  memory_limit: {
    ...SIZE_OR_NONE,
    group: MACHINE,
    about: "limit for the bytes of tensors on the cpu, to see what runs out of memory; none: what the machine has",
  },
  device: { ...row.device, group: MACHINE },
  threads: { ...row.threads, group: MACHINE },
  svg: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: MACHINE,
    about: "draw memory over depth, with a line for each method, into this file",
  },
} as const satisfies SettingRows;

export type BenchSettings = SettingsOf<typeof BENCH_ROWS>;
