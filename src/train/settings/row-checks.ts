// Checks of settings of rows, and of which tokens are trained, that exclude each other or would have no effect.
import type { Given } from "../../settings/table.js";
import type { Problem } from "./rows.js";

export const ROW_PROBLEMS: readonly Problem[] = [
  ({ validation_file, validation_rows }, at) =>
    validation_file !== "" &&
    validation_rows > 0 &&
    `${at.subject("validation_rows")} has no effect: ${at.mention("validation_file")} is what is evaluated. ` +
      "Remove validation_rows or validation_file.",
  ({ format }, at) =>
    (format === "text" || format === "prompt_completion" || format === "tokens") &&
    at.has("assistant_only_loss") &&
    `${at.subject("assistant_only_loss")} has no effect: ${at.mention("format")} has no assistant's turns. ` +
      "Remove assistant_only_loss, or set format to messages or auto.",
  ({ format }, at) =>
    format !== "prompt_completion" &&
    format !== "auto" &&
    at.has("completion_only_loss") &&
    `${at.subject("completion_only_loss")} has no effect: ${at.mention("format")} has no completion. ` +
      "Remove completion_only_loss, or set format to prompt_completion or auto.",
  ({ train_on }, at) => overruled("assistant_only_loss", train_on, at),
  ({ train_on }, at) => overruled("completion_only_loss", train_on, at),
  ({ format }, at) => withoutChat("train_on", format, at),
  ({ format }, at) => withoutChat("chat_template", format, at),
  ({ format }, at) => withoutChat("chat_template_kwargs", format, at),
];

const overruled = (name: string, trainOn: string, at: Given): string | false =>
  trainOn !== "auto" &&
  at.has(name) &&
  `${at.subject(name)} has no effect: ${at.mention("train_on")} says what is trained. Remove one of the two.`;

const withoutChat = (name: string, format: string, at: Given): string | false =>
  (format === "text" || format === "tokens") &&
  at.has(name) &&
  `${at.subject(name)} has no effect: ${at.mention("format")} has no turns. Remove ${name}, or set format to messages or auto.`;
