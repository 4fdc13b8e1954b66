// A row of a data file: an object, and the place it came from, so that each error can name file and row. formats/ reads
// rows, conversations/ knows what they mean. Also has the words for values in messages.
import { UserError } from "../errors.js";
import { quoted } from "./limits.js";

export interface Row {
  value: Record<string, unknown>;
  /** File and line of the row, as in "data/train.jsonl:17". */
  place: string;
}

/** Errors: UserError for a row that is not an object. */
export function asObject(value: unknown, place: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new UserError(`${place}: the row is ${describe(value)} (expected an object such as {"text": "..."}).`);
}

/** A value in few words, for messages: `null`, `an array of 3`, `an object`, `the number 5`. */
export function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : `an array of ${value.length}`;
  if (typeof value === "object") return `an object with the keys ${keyList(Object.keys(value)) || "(none)"}`;
  if (typeof value === "string")
    return `the text ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)}`;
  return `the ${typeof value} ${String(value)}`;
}

const SHOWN_KEYS = 12;

/** Names in quotation marks for a message, as many as fit. */
export function keyList(names: readonly string[]): string {
  const shown = names
    .slice(0, SHOWN_KEYS)
    .map((name) => `"${quoted(name)}"`)
    .join(", ");
  return names.length > SHOWN_KEYS ? `${shown} and ${names.length - SHOWN_KEYS} more` : shown;
}
