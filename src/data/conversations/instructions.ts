// What a message says about its own training. Trainers call it by different names, and all of them are obeyed: weight
// (OpenAI, Mistral), train and training (Axolotl), loss (ms-swift). The key is removed from the message, as no template
// shows it.
import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import type { Message } from "./sample.js";

const OBEYED = ["weight", "train", "training", "loss"];
/** Instructions of other trainers for parts of a turn, or with more than two values. */
const NOT_OBEYED = ["train_detail", "training_detail", "loss_scale", "loss_mask", "trainable", "masked"];

/**
 * Returns the message without its instruction, and whether it may be trained. Errors: UserError for an instruction that
 * cannot be obeyed, and for two that disagree.
 */
export function takeInstruction(message: Message, where: string): { message: Message; trains: boolean } {
  const unknown = NOT_OBEYED.find((key) => message[key] !== undefined && message[key] !== null);
  if (unknown !== undefined) {
    throw new UserError(
      `${where}: "${unknown}" is an instruction that is not known (expected "weight" of 0 or 1, or "train" of true or false, for the ` +
        "whole turn). Remove it, or split the turn.",
    );
  }
  const given = OBEYED.filter((key) => key in message);
  if (given.length === 0) return { message, trains: true };
  const rest = Object.fromEntries(Object.entries(message).filter(([key]) => !given.includes(key))) as Message;
  const said = given.flatMap((key) => {
    const value = yesOrNo(message[key], key, where);
    return value === undefined ? [] : [{ key, value }];
  });
  const [first, ...others] = said;
  if (first === undefined) return { message: rest, trains: true };
  const other = others.find(({ value }) => value !== first.value);
  if (other) {
    throw new UserError(
      `${where}: "${first.key}" and "${other.key}" disagree on whether the turn is trained. Remove one of the two.`,
    );
  }
  if (first.value && message.role !== "assistant") {
    throw new UserError(
      `${where}: "${first.key}" asks to train a turn of the role "${message.role}" (expected it on the assistant's turns). Remove it; to ` +
        "train all turns, set assistant_only_loss: false.",
    );
  }
  return { message: rest, trains: first.value };
}

/** true or false; undefined for null, with which tables fill empty cells. */
function yesOrNo(value: unknown, key: string, where: string): boolean | undefined {
  if (value === null || value === undefined) return undefined;
  if (typeof value === "boolean") return value;
  // A whole float from a table is an object that converts to its number.
  const number = typeof value === "number" || value instanceof Number ? Number(value) : undefined;
  if (number === 0 || number === 1) return number === 1;
  throw new UserError(
    `${where}: ${key} is ${describe(value)} (expected 0 or 1, or true or false). Only whole turns are trained, or not.`,
  );
}
