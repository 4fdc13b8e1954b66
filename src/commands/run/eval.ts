// `revmoe eval`: how good a model is on a file of rows: held-out loss and perplexity, multiple choice by likelihood, or
// exact match of generated answers; as it was trained, as the ordinary network, or both.
import { UserError } from "../errors.js";
import { formatDuration } from "../format.js";
import type { Output } from "../metrics/output.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";
import { openSource } from "../checkpoint/source.js";
import { findModel } from "../checkpoint/run/find-model.js";
import { readRows } from "../data/rows.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { dataSettings } from "../eval/held-out.js";
import { prepareTask } from "../eval/measure.js";
import { detectTask } from "../eval/task-rows.js";
import { chooseNetwork, openNetwork } from "../generate/open-network.js";
import { resolveModel } from "../hub/resolve.js";
import { freeModel } from "../model/model.js";
import { setThreads, useDevice } from "../torch/device.js";

const WHAT = "What is measured";
const LOSS = "Rows of task loss, unless said otherwise as the run had them";
const ASKING = "Questions";
const MACHINE = "Machine";

const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: WHAT,
    about: "folder of a Hugging Face checkpoint or of a run, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  file: { kind: "string", required: true, metavar: "FILE", group: WHAT, about: "rows: .jsonl, .json or .txt" },
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
  device: { ...TRAIN_ROWS.device, group: MACHINE },
  threads: { ...TRAIN_ROWS.threads, group: MACHINE },
  compute_dtype: {
    ...TRAIN_ROWS.compute_dtype,
    group: MACHINE,
    about: "type of the weights and products; auto: what the device multiplies fastest",
  },
} as const satisfies SettingRows;

type EvalSettings = SettingsOf<typeof ROWS>;

/** Which settings a task has beside those that all have. */
const TASK_ROWS = {
  loss: [
    "format",
    "columns",
    "assistant_only_loss",
    "completion_only_loss",
    "max_length",
    "per_device_eval_batch_size",
  ],
  choice: ["template", "chat", "max_length", "per_device_eval_batch_size"],
  "exact-match": ["template", "chat", "max_new_tokens"],
};

export const command: Command<typeof ROWS> = {
  name: "eval",
  summary: "Measure a model: held-out loss, multiple choice, or exact match of answers",
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
  run: async ({ settings, given, json, out, err }) => {
    const { device, threads, compute_dtype: computeDtype, limit, file } = settings;
    useDevice(device);
    setThreads(threads);
    const { folder, run, newer } = findModel(await resolveModel(settings.model, { out: err }));
    if (newer) err.write(`note: ${newer} was saved after ${folder}; give its path to measure it instead\n`);
    // Whatever can be wrong is found out before the weights are read, which may take minutes.
    const source = openSource(folder);
    const views = settings.as === "both" ? (["trained", "ordinary"] as const) : ([settings.as] as const);
    for (const as of views) chooseNetwork(folder, as);
    const read = readRows(file);
    const rows = limit > 0 ? read.slice(0, limit) : read;
    const task = settings.task === "auto" ? detectTask(rows) : settings.task;
    checkTask(task, given);
    const own = Object.fromEntries(Object.entries(settings).filter(([name]) => given.has(name)));
    const data = { ...dataSettings(folder, run), ...own };
    const measure = prepareTask(task, rows, { source, tokenizer: loadTokenizer(source), data, ...settings });

    const results = [];
    for (const as of views) {
      const network = openNetwork(source, { as, device, computeDtype });
      try {
        const name = network.coupling.name;
        const result = measure(network, progressOf(err, name));
        results.push({
          as: as === "auto" ? (name === "ordinary" ? "ordinary" : "trained") : as,
          network: name,
          ...result.record,
        });
        if (!json)
          out.write(`${result.words} (${name === "ordinary" ? "the ordinary network" : `as trained, ${name}`})\n`);
      } finally {
        freeModel(network.model);
      }
    }
    if (json) out.write(`${JSON.stringify({ model: folder, file, task, results }, null, 2)}\n`);
    return 0;
  },
};

function checkTemplate({ template }: EvalSettings, at: Given): string | undefined {
  if (template === "" || template.includes("{question}")) return undefined;
  return `${at.subject("template")} has no place for the question (expected {question} in it). Write it as "Q: {question}\\nA:".`;
}

/** A setting of another task would be without effect. */
function checkTask(task: keyof typeof TASK_ROWS, given: ReadonlySet<string>): void {
  const own = TASK_ROWS[task];
  const idle = Object.values(TASK_ROWS)
    .flat()
    .find((name) => given.has(name) && !own.includes(name));
  if (idle === undefined) return;
  const users = Object.entries(TASK_ROWS).filter(([, names]) => names.includes(idle));
  throw new UserError(
    `${idle} has no effect in task ${task}: it is for ${users.map(([name]) => name).join(" and ")}. Remove ${idle}, or set task.`,
  );
}

/** Tells how far it is, at most every few seconds. */
function progressOf(err: Output, name: string): (share: number) => void {
  const start = performance.now();
  let told = start;
  return (share) => {
    const now = performance.now();
    if (now - told < 5000 || share >= 1) return;
    told = now;
    err.write(
      `${name}: ${(100 * share).toFixed(0)} %, left ${formatDuration(((now - start) * (1 - share)) / share)}\n`,
    );
  };
}
