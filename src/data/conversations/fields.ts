// Fields that several kinds of rows have: texts, and lists that may be written as JSON, as tables with one type per
// column keep them. Errors name the row and the field.
import { UserError } from "../../errors.js";
import { parseJsonRow } from "../json-values.js";
import { describe } from "../rows.js";

export function readText(value: unknown, key: string, place: string): string {
  if (typeof value === "string") return value;
  throw new UserError(`${place}: ${key} is ${describe(value)} (expected a text).`);
}

/** A text; undefined if it is missing, null or empty. */
export const readOptionalText = (value: unknown, key: string, place: string): string | undefined =>
  value === undefined || value === null || value === "" ? undefined : readText(value, key, place);

/** The parsed value of a text that is the JSON of a list or an object; any other value unchanged. */
export function fromJsonText(value: unknown): unknown {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  try {
    return parseJsonRow(value);
  } catch {
    return value;
  }
}

/** Descriptions of tools: a list, the JSON of a list, or a list of JSON texts. */
export function readTools(value: unknown, place: string): unknown[] | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const list = fromJsonText(value);
  if (Array.isArray(list)) {
    const tools = list.map(fromJsonText);
    const wrong = tools.findIndex((tool) => typeof tool !== "object" || tool === null);
    if (wrong < 0) return tools.length === 0 ? undefined : tools;
    throw new UserError(`${place}: tools[${wrong}] is ${describe(tools[wrong])} (expected the description of a tool).`);
  }
  throw new UserError(`${place}: tools is ${describe(value)} (expected a list of tool descriptions, or no such key).`);
}

/** The row's own variables for the chat template: a map, or the JSON of a map. */
export function readKwargs(value: unknown, place: string): { kwargs?: Record<string, unknown> } {
  if (value === undefined || value === null || value === "") return {};
  const map = fromJsonText(value);
  if (typeof map === "object" && map !== null && !Array.isArray(map)) return { kwargs: map as Record<string, unknown> };
  throw new UserError(
    `${place}: chat_template_kwargs is ${describe(value)} (expected a map such as {"enable_thinking": false}, or no such key).`,
  );
}
