// `revmoe eval`: measures how good a model is on a file of rows. Its words and settings; the work is in run/eval.ts.
import { MACHINE_ROWS } from "../library/generate-settings.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";

const WHAT = "What is measured";
const LOSS = "Rows of task loss; by default they are read as in the run";
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
    about: "rows to measure on: files, globs, folders, or data sets on the hub, as revmoe train takes them",
  },
  task: {
    kind: "choice",
    choices: ["auto", "loss", "choice", "exact-match"],
    default: "auto",
    group: WHAT,
    about:
      "what to measure; loss: loss and perplexity; choice: multiple choice; exact-match: exact match of a generated number; auto: detected from the rows, by the run's names of columns",
  },
  as: {
    kind: "choice",
    choices: ["auto", "trained", "ordinary", "both"],
    default: "auto",
    group: WHAT,
    about:
      "which network to measure; trained: as it was trained; ordinary: the ordinary network; both: one after the other; auto: as trained, if the folder says how it was trained",
  },
  limit: {
    kind: "integer",
    default: 0,
    min: 0,
    group: WHAT,
    about: "highest number of rows, from the first on; 0: all",
  },
  format: { ...TRAIN_ROWS.format, group: LOSS },
  columns: { ...TRAIN_ROWS.columns, group: LOSS },
  assistant_only_loss: {
    ...TRAIN_ROWS.assistant_only_loss,
    group: LOSS,
    about: "in conversations, measure the assistant's turns only",
  },
  completion_only_loss: {
    ...TRAIN_ROWS.completion_only_loss,
    group: LOSS,
    about: "in rows of prompt and completion, measure the completion only",
  },
  max_length: {
    ...TRAIN_ROWS.max_length,
    group: LOSS,
    about: "highest number of tokens in a row, and in a pack of choices",
  },
  excess_length_strategy: { ...TRAIN_ROWS.excess_length_strategy, group: LOSS },
  per_device_eval_batch_size: {
    ...TRAIN_ROWS.per_device_eval_batch_size,
    group: LOSS,
    about: "number of rows of max_length that are computed at once",
  },
  template: {
    kind: "string",
    default: "",
    group: ASKING,
    about:
      'how a question is asked, with {question} in it and \\n for a new line; none: "Question: {question}\\nAnswer:", or in a chat only the question',
  },
  chat: { kind: "boolean", default: false, group: ASKING, about: "ask in the format of the chat template" },
  max_new_tokens: {
    kind: "integer",
    default: 256,
    min: 1,
    group: ASKING,
    about: "highest number of tokens in an answer, in task exact-match",
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
