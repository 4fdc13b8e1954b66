// `revmoe eval`: measures how good a model is on a file of rows: held-out loss and perplexity, multiple choice by
// likelihood, or exact match of generated answers; with the trained network, the ordinary network, or both.
import { UserError } from "../../errors.js";
import { formatDuration } from "../../format.js";
import type { Output } from "../../metrics/output.js";
import type { CommandInput } from "../command.js";
import { openSource } from "../../checkpoint/source.js";
import { parseSources } from "../../data/sources/parse.js";
import { readAllRows } from "../../data/sources/open-sources.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { dataSettings } from "../../eval/held-out.js";
import { prepareTask } from "../../eval/measure.js";
import { detectTask, hasColumns, type Task } from "../../eval/task-rows.js";
import { chooseNetwork, openNetwork } from "../../generate/open-network.js";
import { resolveSources } from "../../hub/datasets.js";
import { freeModel } from "../../model/model.js";
import { setThreads, useDevice } from "../../torch/device.js";
import type { ROWS } from "../eval.js";
import { namedModel } from "../../hub/named-model.js";

/** Settings that a task has beside those that all tasks have. */
const TASK_ROWS: Record<Task, string[]> = {
  loss: [
    "format",
    "columns",
    "assistant_only_loss",
    "completion_only_loss",
    "max_length",
    "excess_length_strategy",
    "per_device_eval_batch_size",
  ],
  choice: ["template", "chat", "max_length", "per_device_eval_batch_size"],
  "exact-match": ["template", "chat", "max_new_tokens"],
};

export async function run({ settings, given, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { device, threads, compute_dtype: computeDtype, limit, file } = settings;
  useDevice(device);
  setThreads(threads);
  const { folder, run } = await namedModel(settings.model, "measure", { out: err });
  // All errors are found before the weights are read, which may take minutes.
  const source = openSource(folder);
  const views = settings.as === "both" ? (["trained", "ordinary"] as const) : ([settings.as] as const);
  for (const as of views) chooseNetwork(folder, as);
  const rows = await readAllRows(
    parseSources(await resolveSources(file, "file", { out: err }), "file"),
    limit > 0 ? limit : undefined,
  );
  const own = Object.fromEntries(Object.entries(settings).filter(([name]) => given.has(name)));
  const ofRun = dataSettings(folder, run);
  // The file may have our names of columns, even if the run's file had others.
  const columns = hasColumns(rows, ofRun.columns) ? ofRun.columns : {};
  const task = settings.task === "auto" ? (taskOf(given) ?? detectTask(rows, columns)) : settings.task;
  checkTask(task, given);
  // Here, the given settings decide what is trained.
  const overrules = given.has("assistant_only_loss") || given.has("completion_only_loss");
  const data = { ...ofRun, columns, ...own, ...(overrules && { train_on: "auto" as const }) };
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
}

/** Names of columns, or a format, are only given for rows to predict; so the task is "loss". */
const taskOf = (given: ReadonlySet<string>): Task | undefined =>
  ["columns", "format"].some((name) => given.has(name)) ? "loss" : undefined;

/** Errors: UserError for a setting of another task, which would have no effect. */
function checkTask(task: Task, given: ReadonlySet<string>): void {
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

/** Reports progress, at most every few seconds. */
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
