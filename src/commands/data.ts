// `revmoe data`: shows rows as the model will see them. Its words and settings; the work is in run/data.ts.
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

const SHOWN = "What is shown";

export const ROWS = {
  train_file: { ...TRAIN_ROWS.train_file, about: "rows, as revmoe train takes them; the flag itself may be left out" },
  model: {
    ...TRAIN_ROWS.model,
    about: "folder with the tokenizer and its chat template: a checkpoint, a run, a .gguf file, or a name on the hub",
  },
  rows: {
    kind: "integer",
    default: 3,
    min: 0,
    group: SHOWN,
    about: "how many rows to show, from the first on; with --json all rows, unless you give a number",
  },
  html: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: SHOWN,
    about: "also write the rows and figures as a web page into this file",
  },
  format: TRAIN_ROWS.format,
  columns: TRAIN_ROWS.columns,
  assistant_only_loss: TRAIN_ROWS.assistant_only_loss,
  completion_only_loss: TRAIN_ROWS.completion_only_loss,
  train_on: TRAIN_ROWS.train_on,
  chat_template: TRAIN_ROWS.chat_template,
  chat_template_kwargs: TRAIN_ROWS.chat_template_kwargs,
  eos_token: TRAIN_ROWS.eos_token,
  add_tokens: TRAIN_ROWS.add_tokens,
  add_special_tokens: TRAIN_ROWS.add_special_tokens,
  max_length: TRAIN_ROWS.max_length,
  excess_length_strategy: TRAIN_ROWS.excess_length_strategy,
  packing: TRAIN_ROWS.packing,
  dataset_cache: TRAIN_ROWS.dataset_cache,
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "data",
  usage: "revmoe data FILE... --model FOLDER [--setting value ...]",
  example:
    "revmoe data chats.jsonl --model ./Qwen1.5-MoE-A2.7B\nrevmoe data chats.jsonl --model ./Qwen1.5-MoE-A2.7B --rows 20 --html rows.html",
  settings: {
    rows: ROWS,
    elsewhere: {
      tokenizer: "Use model: a folder with the tokenizer is enough.",
      file: "Give the file without a flag.",
      limit: "Use rows.",
    },
  },
  positional: { label: "FILE...", about: "the rows, as for train_file", setting: "train_file" },
  json: true,
  jsonAbout: "print a JSON line for each row, for machines; the summary goes to stderr",
  load: () => import("./run/data.js"),
};
