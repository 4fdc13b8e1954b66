// `revmoe eval`: measures how good a model is on a file of rows. Its words and settings; the work is in run/eval.ts.
import { MACHINE_ROWS } from "../library/generate-settings.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";

const WHAT = "What is measured";
const LOSS = "Rows of task loss, unless said otherwise as the run had them";
const ASKING = "Questions";

export const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: WHAT,
    about: "folder of a Hugging Face checkpoint or of a run, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  file: {
    kind: "string",
    required: true,
    metavar: "FILE...",
    group: WHAT,
    fromList: TRAIN_ROWS.train_file.fromList,
    about: "rows: files, globs, folders, or sets on the hub, as train takes them",
  },
  task: {
    kind: "choice",
    choices: ["auto", "loss", "choice", "exact-match"],
    default: "auto",
    group: WHAT,
    about: "loss and perplexity; multiple choice; exact match of a generated number; auto: seen from the rows",
  },
  as: {
    kind: "choice",
    choices: ["auto", "trained", "ordinary", "both"],
    default: "auto",
    group: WHAT,
    about:
      "the network as it was trained, the ordinary one, or both; auto: as trained where the folder says how it was",
  },
  limit: { kind: "integer", default: 0, min: 0, group: WHAT, about: "rows at most, from the first; 0: all" },
  format: { ...TRAIN_ROWS.format, group: LOSS },
  columns: { ...TRAIN_ROWS.columns, group: LOSS },
  assistant_only_loss: {
    ...TRAIN_ROWS.assistant_only_loss,
    group: LOSS,
    about: "in conversations, the assistant's turns only",
  },
  completion_only_loss: {
    ...TRAIN_ROWS.completion_only_loss,
    group: LOSS,
    about: "in prompt and completion, the completion only",
  },
  max_length: { ...TRAIN_ROWS.max_length, group: LOSS, about: "tokens of a row at most; also of a pack of choices" },
  excess_length_strategy: { ...TRAIN_ROWS.excess_length_strategy, group: LOSS },
  per_device_eval_batch_size: {
    ...TRAIN_ROWS.per_device_eval_batch_size,
    group: LOSS,
    about: "rows of max_length that pass at once",
  },
  template: {
    kind: "string",
    default: "",
    group: ASKING,
    about:
      'how a question is put, with {question} in it and \\n for a new line; "Question: {question}\\nAnswer:", or in a chat the question alone',
  },
  chat: { kind: "boolean", default: false, group: ASKING, about: "ask in the form of the chat template" },
  max_new_tokens: {
    kind: "integer",
    default: 256,
    min: 1,
    group: ASKING,
    about: "tokens of an answer at most, in task exact-match",
  },
  ...MACHINE_ROWS,
} as const satisfies SettingRows;

export type EvalSettings = SettingsOf<typeof ROWS>;

export const command: Command<typeof ROWS> = {
  name: "eval",
  usage: "revmoe eval --model FOLDER --file ROWS [--setting value ...]",
  example:
    "revmoe eval --model runs/first --file held-out.jsonl --as both\nrevmoe eval --model runs/first --file gsm8k-test.jsonl --limit 100",
  settings: {
    rows: ROWS,
    elsewhere: {
      tasks: "Use file and task.",
      validation_file: "Use file.",
      eval_file: "Use file.",
      num_fewshot: "Put examples into template.",
    },
    check: checkTemplate,
  },
  json: true,
  load: () => import("./run/eval.js"),
};

function checkTemplate({ template }: EvalSettings, at: Given): string | undefined {
  if (template === "" || template.includes("{question}")) return undefined;
  return `${at.subject("template")} has no place for the question (expected {question} in it). Write it as "Q: {question}\\nA:".`;
}
