// Checks of settings of a run's course that exclude each other or would have no effect: length, evaluation, saving, the
// best network, reports, samples.
import { REPORTS_WITH_NAME } from "../../metrics/sinks/registry.js";
import type { Given } from "../../settings/table.js";
import type { Problem, TrainSettings } from "./rows.js";
import { savesAtAll } from "./saving.js";

export const COURSE_PROBLEMS: readonly Problem[] = [
  ({ max_steps }, at) =>
    max_steps > 0 &&
    at.has("num_train_epochs") &&
    `${at.subject("num_train_epochs")} has no effect: ${at.mention("max_steps")} says how long to train. ` +
      "Remove num_train_epochs or max_steps.",
  (settings, at) => withoutRows("eval_steps", settings.eval_steps > 0, settings, at),
  (settings, at) => withoutRows("eval_strategy", settings.eval_strategy === "epoch", settings, at),
  ({ report_to: names }, at) =>
    names.includes("none") && names.length > 1 && `${at.subject("report_to")} names none beside others. Remove none.`,
  ({ run_name, report_to: names }, at) =>
    run_name !== "" &&
    !names.some((name) => REPORTS_WITH_NAME.includes(name)) &&
    `${at.subject("run_name")} has no effect: ${at.mention("report_to")} has none of ${REPORTS_WITH_NAME.join(", ")}. Remove run_name, or add one of them.`,
  ({ save_strategy, save_steps, save_total_limit, load_best_model_at_end: best }, at) =>
    save_total_limit > 0 &&
    !best &&
    !savesAtAll({ save_strategy, save_steps }) &&
    `${at.subject("save_total_limit")} has no effect: ${at.mention(save_strategy === "no" ? "save_strategy" : "save_steps")} makes no checkpoints. ` +
      "Remove save_total_limit, or set save_steps.",
  (settings, at) => otherStrategy("save", settings.save_strategy, at),
  (settings, at) => otherStrategy("eval", settings.eval_strategy, at),
  (settings, at) => withoutEvaluations("load_best_model_at_end", settings.load_best_model_at_end, settings, at),
  (settings, at) => withoutEvaluations("early_stopping_patience", settings.early_stopping_patience > 0, settings, at),
  ({ load_best_model_at_end: best, early_stopping_patience: patience }, at) =>
    !best &&
    patience === 0 &&
    at.has("metric_for_best_model") &&
    `${at.subject("metric_for_best_model")} has no effect: nothing asks which evaluation is the best. ` +
      "Remove it, or set load_best_model_at_end or early_stopping_patience.",
  ({ early_stopping_patience: patience }, at) =>
    patience === 0 &&
    at.has("early_stopping_threshold") &&
    `${at.subject("early_stopping_threshold")} has no effect: ${at.mention("early_stopping_patience")} stops no run early. ` +
      "Remove one of the two.",
  (settings, at) => withoutPrompts("sample_steps", settings, at),
  (settings, at) => withoutPrompts("sample_tokens", settings, at),
];

const withoutPrompts = (name: string, { sample_prompts: prompts }: TrainSettings, at: Given): string | false =>
  prompts.length === 0 &&
  at.has(name) &&
  `${at.subject(name)} has no effect: there is nothing to go on from. Remove ${name}, or set sample_prompts.`;

const withoutRows = (name: string, asked: boolean, { validation_file, validation_rows }: TrainSettings, at: Given) =>
  asked &&
  validation_file === "" &&
  validation_rows === 0 &&
  `${at.subject(name)} has no effect: there is nothing to evaluate on. Remove ${name}, or set validation_file or validation_rows.`;

/** A setting that compares evaluations needs some between start and end. */
const withoutEvaluations = (name: string, asked: boolean, settings: TrainSettings, at: Given): string | false =>
  withoutRows(name, asked, settings, at) ||
  (asked &&
    (settings.eval_strategy === "no" || (settings.eval_strategy === "steps" && settings.eval_steps === 0)) &&
    `${at.subject(name)} needs evaluations to choose from: ${at.mention(settings.eval_strategy === "no" ? "eval_strategy" : "eval_steps")} makes one, at the end. ` +
      `Set eval_steps, or eval_strategy to epoch, or remove ${name}.`);

/** Refuses the number of steps of a strategy that does not count steps. */
const otherStrategy = (of: "save" | "eval", strategy: string, at: Given): string | false =>
  strategy !== "steps" &&
  at.has(`${of}_steps`) &&
  `${at.subject(`${of}_steps`)} has no effect with ${at.mention(`${of}_strategy`)}. Remove one of the two.`;
