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
    about: "where the weights come from; random: drawn from seed, in the shapes of config.json, to train from scratch",
  },
  train_file: {
    kind: "string",
    required: true,
    metavar: "FILE...",
    group: GROUP,
    fromList: sourcesAsText,
    about:
      "rows to train on: files, globs, folders, or data sets on the hub (org/name). Several with weights: a.jsonl:0.7 b/*.parquet:0.3; a part of one: a.jsonl[:1000], org/name[test]; see docs/data.md",
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
    about: "rows to hold out from the end of train_file, if there is no validation_file; 0: none; 200 is a good value",
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
      "start a new run in a folder that already holds one; the old run's checkpoints, result, working copy and metrics are removed",
  },
  format: {
    kind: "choice",
    choices: ["auto", ...ROW_FORMATS],
    default: "auto",
    group: GROUP,
    about: "what kind of rows the files hold; auto: detected from the first rows",
  },
  columns: {
    kind: "map",
    default: {},
    group: GROUP,
    about: "which of your columns to use for which field, as prompt=question,completion=answer",
  },
  assistant_only_loss: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "in conversations, compute the loss on the assistant's turns only",
  },
  completion_only_loss: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "in rows of prompt and completion, compute the loss on the completion only",
  },
  train_on: {
    kind: "choice",
    choices: ["auto", ...TRAIN_ON],
    default: "auto",
    group: GROUP,
    about:
      "what to train on, instead of the two settings above; assistant: every turn of the assistant; last: its last turn; completion: its turns in the completion; all: all tokens; auto: as those two say",
  },
  chat_template: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: GROUP,
    about: "file with a chat template to use instead of the model's; the result is saved with it",
  },
  chat_template_kwargs: {
    kind: "values",
    default: {},
    group: GROUP,
    about: "variables for the chat template, as enable_thinking=false",
  },
  eos_token: {
    kind: "string",
    default: "",
    metavar: "TOKEN",
    group: GROUP,
    about:
      "token that ends a text, instead of the model's own; it is added after texts and completions, and saved with the tokenizer",
  },
  add_tokens: {
    kind: "string",
    list: true,
    default: [],
    group: GROUP,
    about:
      "tokens to add to the vocabulary; their rows in the embedding and the head start as the mean of the other rows",
  },
  add_special_tokens: {
    kind: "string",
    list: true,
    default: [],
    group: GROUP,
    about: "like add_tokens, for tokens that are not text, such as marks of turns; decoding leaves them out",
  },
  excess_length_strategy: {
    kind: "choice",
    choices: ["truncate", "drop"],
    default: "truncate",
    group: GROUP,
    about:
      "what to do with rows longer than max_length; truncate: cut them off, but split plain texts into pieces; drop: leave them out",
  },
  max_length: {
    kind: "integer",
    default: 2048,
    min: 2,
    max: LONGEST,
    group: GROUP,
    about: "highest number of tokens in a row; with packing, in a pack",
  },
  dataset_cache: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about:
      "keep the tokens of rows that take long to prepare, for the next start; they are in the folder rows of the cache (REVMOE_CACHE)",
  },
  packing: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "put several whole documents into one row of max_length tokens; there is no attention between them",
  },
} as const satisfies SettingRows;
