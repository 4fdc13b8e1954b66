// The settings of `train` that exclude each other, or would have no effect: each a sentence that names both sides and
// both ways out. Ranges of single settings are in their rows.
import { OPTIMIZERS_WITH } from "./optimizer-rows.js";
import type { Given } from "./settings-table.js";
import type { TrainSettings } from "./settings-rows.js";

type Problem = (settings: TrainSettings, given: Given) => string | false;

const PROBLEMS: readonly Problem[] = [
  ({ coupling, method }, at) =>
    coupling === "ordinary" &&
    method === "reversible" &&
    `${at.subject("coupling")} cannot be reversed, which ${at.mention("method")} needs. ` +
      "Set method to store or checkpoint, or coupling to momentum or additive.",
  ({ coupling }, at) =>
    coupling !== "momentum" &&
    at.has("gamma") &&
    `${at.subject("gamma")} has no effect: only coupling momentum has it, not ${at.mention("coupling")}. ` +
      "Remove gamma, or set coupling to momentum.",
  ({ coupling, stream }, at) =>
    coupling === "ordinary" &&
    stream !== "int32" &&
    `${at.subject("stream")} has no effect: streams are rebuilt in no block with ${at.mention("coupling")}. ` +
      "Remove stream, or set coupling to momentum or additive.",
  ({ coupling }, at) =>
    coupling === "ordinary" &&
    at.has("stream_fraction_bits") &&
    `${at.subject("stream_fraction_bits")} has no effect: ` +
      `streams are rebuilt in no block with ${at.mention("coupling")}. ` +
      "Remove stream_fraction_bits, or set coupling to momentum or additive.",
  ({ stream }, at) =>
    stream === "float32" &&
    at.has("stream_fraction_bits") &&
    `${at.subject("stream_fraction_bits")} has no effect: ${at.mention("stream")} has no grid. ` +
      "Remove stream_fraction_bits, or set stream to int32 or int64.",
  ({ stream, stream_fraction_bits: bits }, at) =>
    stream === "int32" &&
    bits > 28 &&
    `${at.subject("stream_fraction_bits")} leaves ${at.mention("stream")} no room for whole numbers ` +
      "(expected at most 28). Set fewer bits, or stream to int64.",
  ({ warmup_steps }, at) =>
    warmup_steps > 0 &&
    at.has("warmup_ratio") &&
    `${at.subject("warmup_ratio")} has no effect: ${at.mention("warmup_steps")} says how long warm-up is. ` +
      "Remove warmup_ratio or warmup_steps.",
  ({ lr_scheduler_type: type }, at) =>
    type === "constant" &&
    at.has("min_lr_ratio") &&
    `${at.subject("min_lr_ratio")} has no effect: ` +
      `the learning rate never falls with ${at.mention("lr_scheduler_type")}. ` +
      "Remove min_lr_ratio, or set lr_scheduler_type to cosine or linear.",
  ({ validation_file, validation_rows }, at) =>
    validation_file !== "" &&
    validation_rows > 0 &&
    `${at.subject("validation_rows")} has no effect: ${at.mention("validation_file")} is what is evaluated. ` +
      "Remove validation_rows or validation_file.",
  ({ format }, at) =>
    (format === "text" || format === "prompt_completion") &&
    at.has("assistant_only_loss") &&
    `${at.subject("assistant_only_loss")} has no effect: ${at.mention("format")} has no assistant's turns. ` +
      "Remove assistant_only_loss, or set format to messages or auto.",
  ({ format }, at) =>
    (format === "text" || format === "messages") &&
    at.has("completion_only_loss") &&
    `${at.subject("completion_only_loss")} has no effect: ${at.mention("format")} has no completion. ` +
      "Remove completion_only_loss, or set format to prompt_completion or auto.",
  ({ max_steps }, at) =>
    max_steps > 0 &&
    at.has("num_train_epochs") &&
    `${at.subject("num_train_epochs")} has no effect: ${at.mention("max_steps")} says how long to train. ` +
      "Remove num_train_epochs or max_steps.",
  ({ eval_steps, validation_file, validation_rows }, at) =>
    eval_steps > 0 &&
    validation_file === "" &&
    validation_rows === 0 &&
    `${at.subject("eval_steps")} has no effect: there is nothing to evaluate on. ` +
      "Remove eval_steps, or set validation_file or validation_rows.",
  ({ save_total_limit, save_steps }, at) =>
    save_total_limit > 0 &&
    save_steps === 0 &&
    `${at.subject("save_total_limit")} has no effect: ${at.mention("save_steps")} makes one checkpoint, at the end. ` +
      "Remove save_total_limit, or set save_steps.",
  ({ weights_dtype, weights_correction }, at) =>
    weights_dtype === "float32" &&
    weights_correction !== "none" &&
    `${at.subject("weights_correction")} has no effect: ${at.mention("weights_dtype")} needs no correction. ` +
      "Remove weights_correction, or set weights_dtype to bfloat16.",
  ...Object.entries(OPTIMIZERS_WITH).map(
    ([name, optimizers]): Problem =>
      ({ optimizer }, at) =>
        at.has(name) &&
        !optimizers.includes(optimizer) &&
        `${at.subject(name)} has no effect: only ${optimizers.join(", ")} ${optimizers.length > 1 ? "have" : "has"} it, ` +
          `not ${at.mention("optimizer")}. Remove ${name}, or set optimizer to ${optimizers.join(" or ")}.`,
  ),
];

/** The first problem of settings that are each possible by themselves, or undefined. */
export function checkTrainSettings(settings: TrainSettings, given: Given): string | undefined {
  for (const problem of PROBLEMS) {
    const message = problem(settings, given);
    if (message !== false) return message;
  }
  return undefined;
}
