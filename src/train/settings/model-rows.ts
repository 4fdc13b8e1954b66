// The settings of `train` that say which model is trained, on which rows, and how rows become documents.
import { ROW_FORMATS } from "../../data/conversations/row-kind.js";
import { sourcesAsText } from "../../data/sources/as-text.js";
import { TRAIN_ON } from "../../data/trained-parts.js";
import { LONGEST } from "../../settings/limits.js";
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Model and data";

export const MODEL_ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: GROUP,
    about: "folder of a Hugging Face checkpoint or of a run, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  init_weights: {
    kind: "choice",
    choices: ["checkpoint", "random"],
    default: "checkpoint",
    group: GROUP,
    about: "where weights come from; random: by config.json and seed, to train from scratch",
  },
  train_file: {
    kind: "string",
    required: true,
    metavar: "FILE...",
    group: GROUP,
    fromList: sourcesAsText,
    about:
      "rows to train on: files, globs, folders, or sets on the hub, as org/name; several with weights: a.jsonl:0.7 b/*.parquet:0.3; a part of one: a.jsonl[:1000], org/name[test]; see docs/data.md",
  },
  validation_file: {
    kind: "string",
    default: "",
    metavar: "FILE...",
    group: GROUP,
    fromList: sourcesAsText,
    about: "rows to evaluate on, never trained on; named as train_file",
  },
  validation_rows: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "with no validation_file: hold out this many rows from the end of train_file; 0: none; 200 is a good value",
  },
  output_dir: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: GROUP,
    about: "folder of the run: its settings, metrics, checkpoints and result",
  },
  overwrite_output_dir: {
    kind: "boolean",
    default: false,
    group: GROUP,
    about:
      "start anew in a folder that already holds a run: its checkpoints, result, working copy and metrics are removed",
  },
  format: {
    kind: "choice",
    choices: ["auto", ...ROW_FORMATS],
    default: "auto",
    group: GROUP,
    about: "what a row holds; auto: seen from the first rows",
  },
  columns: {
    kind: "map",
    default: {},
    group: GROUP,
    about: "names of the file's own columns: prompt=question,completion=answer",
  },
  assistant_only_loss: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "in conversations, train on the assistant's turns only",
  },
  completion_only_loss: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "in prompt and completion, train on the completion only",
  },
  train_on: {
    kind: "choice",
    choices: ["auto", ...TRAIN_ON],
    default: "auto",
    group: GROUP,
    about:
      "in place of the two above: every turn of the assistant, the last of them, those of the completion, or all tokens; auto: as these say",
  },
  chat_template: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: GROUP,
    about: "a file with a chat template in place of the model's; what is saved has it",
  },
  chat_template_kwargs: {
    kind: "values",
    default: {},
    group: GROUP,
    about: "variables that the chat template looks at: enable_thinking=false",
  },
  eos_token: {
    kind: "string",
    default: "",
    metavar: "TOKEN",
    group: GROUP,
    about:
      "the token that ends a text, in place of the model's: put behind rows of text and completion, and named in what is saved",
  },
  add_tokens: {
    kind: "string",
    list: true,
    default: [],
    group: GROUP,
    about: "tokens to add to the vocabulary; their rows of embedding and head begin as the mean of the others",
  },
  add_special_tokens: {
    kind: "string",
    list: true,
    default: [],
    group: GROUP,
    about: "the same for tokens that are no text, as marks of turns: decoding leaves them out",
  },
  excess_length_strategy: {
    kind: "choice",
    choices: ["truncate", "drop"],
    default: "truncate",
    group: GROUP,
    about: "rows longer than max_length: cut off, texts into pieces; or left out",
  },
  max_length: {
    kind: "integer",
    default: 2048,
    min: 2,
    max: LONGEST,
    group: GROUP,
    about: "tokens of a row at most; with packing, tokens of a pack",
  },
  dataset_cache: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about:
      "keep the tokens of rows that take long to prepare for the next start, in the cache's folder rows (REVMOE_CACHE)",
  },
  packing: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "fill rows of max_length with whole documents; no attention between them",
  },
} as const satisfies SettingRows;
