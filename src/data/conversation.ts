// What a row means: a conversation, a prompt with its completion, or plain text. Columns are renamed first, then the
// format is found from the first rows, then each row is checked and turned into a Sample; all complaints name the row.
// Content is passed on untouched, and so are keys that only a chat template knows (tool_calls, reasoning_content).
import { nearestName, UserError } from "../errors.js";
import { quoted } from "./limits.js";
import { describe, keyList, type Row } from "./rows.js";

export type RowFormat = "messages" | "prompt_completion" | "text";

export interface Message {
  role: string;
  /** Null or absent only beside tool_calls. */
  content?: string | null;
  [key: string]: unknown;
}

export type Sample =
  | { kind: "messages"; messages: Message[]; tools: unknown[] | undefined }
  | { kind: "chat_completion"; prompt: Message[]; completion: Message[]; tools: unknown[] | undefined }
  | { kind: "completion"; prompt: string; completion: string }
  | { kind: "text"; text: string };

const FORMAT_KEYS: Record<RowFormat, string[]> = {
  messages: ["messages"],
  prompt_completion: ["prompt", "completion"],
  text: ["text"],
};
const COLUMN_NAMES = [...Object.values(FORMAT_KEYS).flat(), "tools"];
const ROLES = ["system", "developer", "user", "assistant", "tool", "function", "ipython"];
const ROWS_LOOKED_AT = 100;
/** Letters of a name that may be a misspelling: finding what it is near to takes as long as it is. */
const LONGEST_NAME = 60;

/** Columns of a row that its format reads, by our names. */
export const columnsRead = (format: RowFormat): ReadonlySet<string> =>
  new Set([...FORMAT_KEYS[format], ...(format === "text" ? [] : ["tools"])]);

/**
 * The rows with columns renamed: `columns` maps our name to the file's, as {prompt: "question"}. Without `check`, for later
 * rows, names that no row has are taken.
 */
export function renameColumns(rows: Row[], columns: Readonly<Record<string, string>>, check = true): Row[] {
  const wanted = Object.entries(columns);
  if (wanted.length === 0) return rows;
  const found = keysOf(rows);
  for (const [ours, theirs] of check ? wanted : []) {
    if (!COLUMN_NAMES.includes(ours)) {
      throw new UserError(
        `columns: "${ours}" is not a column we read (expected ${list(COLUMN_NAMES)}).${meant(ours, COLUMN_NAMES)}`,
      );
    }
    if (!found.includes(theirs)) {
      throw new UserError(
        `${rows[0].place}: no column "${theirs}", which columns gives for "${ours}" (found ` +
          `${list(found)}).${meant(theirs, found)}`,
      );
    }
  }
  return rows.map(({ value, place }) => {
    const renamed = { ...value };
    for (const [, theirs] of wanted) delete renamed[theirs];
    for (const [ours, theirs] of wanted) if (theirs in value) renamed[ours] = value[theirs];
    return { value: renamed, place };
  });
}

/** The format all of the first rows have. Errors: UserError with the keys found and the formats known. */
export function detectFormat(rows: Row[], wanted: RowFormat | "auto"): RowFormat {
  const first = rows.slice(0, ROWS_LOOKED_AT);
  const fits = (format: RowFormat): boolean =>
    first.every(({ value }) => FORMAT_KEYS[format].every((key) => value[key] !== undefined && value[key] !== null));
  const formats = wanted === "auto" ? (Object.keys(FORMAT_KEYS) as RowFormat[]) : [wanted];
  const format = formats.find(fits);
  if (format !== undefined) return format;
  checkAlike(first, formats);
  const expected = formats
    .map((name) => `${FORMAT_KEYS[name].map((key) => `"${key}"`).join(" and ")} for the format ${name}`)
    .join(", ");
  throw new UserError(
    `${rows[0].place}: the first rows have the keys ${list(keysOf(first))} (expected ${expected}). ` +
      `${emptyIn(first, Object.values(FORMAT_KEYS).flat())}Rename them with the setting columns, as in columns: {prompt: "question", completion: "answer"}.`,
  );
}

/** The checked content of one row. Errors: UserError naming the row and the value that is wrong. */
export function readSample({ value, place }: Row, format: RowFormat): Sample {
  if (format === "text") return { kind: "text", text: readText(value.text, "text", place) };
  const tools = readTools(value.tools, place);
  if (format === "messages")
    return { kind: "messages", messages: readMessages(value.messages, "messages", place), tools };
  const { prompt, completion } = value;
  if (Array.isArray(prompt) !== Array.isArray(completion)) {
    throw new UserError(
      `${place}: prompt is ${describe(prompt)} and completion is ${describe(completion)} (expected two texts or ` +
        "two lists of messages).",
    );
  }
  if (Array.isArray(prompt)) {
    return {
      kind: "chat_completion",
      prompt: readMessages(prompt, "prompt", place),
      completion: readMessages(completion, "completion", place),
      tools,
    };
  }
  return {
    kind: "completion",
    prompt: readText(prompt, "prompt", place),
    completion: readText(completion, "completion", place),
  };
}

function readText(value: unknown, key: string, place: string): string {
  if (typeof value === "string") return value;
  throw new UserError(`${place}: ${key} is ${describe(value)} (expected a text).`);
}

/** A list, or the text of one: tables that want one type a column keep it so. */
function readTools(value: unknown, place: string): unknown[] | undefined {
  if (value === undefined || value === null) return undefined;
  const list = typeof value === "string" ? parseJson(value) : value;
  if (Array.isArray(list)) return list as unknown[];
  throw new UserError(`${place}: tools is ${describe(value)} (expected a list of tool descriptions, or no such key).`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function readMessages(value: unknown, key: string, place: string): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(
      `${place}: ${key} is ${describe(value)} (expected a list of at least one {"role", "content"}).`,
    );
  }
  return value.map((item: unknown, i) => readMessage(item, `${place}: ${key}[${i}]`));
}

function readMessage(item: unknown, where: string): Message {
  if (typeof item !== "object" || item === null || Array.isArray(item)) {
    throw new UserError(`${where} is ${describe(item)} (expected {"role", "content"}).`);
  }
  const { role, content, tool_calls: calls } = item as Record<string, unknown>;
  if (typeof role !== "string") {
    throw new UserError(
      `${where}: role is ${describe(role)} (expected ${list(ROLES)}; the keys are ${list(Object.keys(item))}).`,
    );
  }
  if (!ROLES.includes(role))
    throw new UserError(`${where}: role is "${quoted(role)}" (expected ${list(ROLES)}).${meant(role, ROLES)}`);
  const onlyCalls = (content === undefined || content === null) && Array.isArray(calls) && calls.length > 0;
  if (typeof content !== "string" && !onlyCalls) {
    throw new UserError(`${where}: content is ${describe(content)} (expected a text). Only text can be trained on.`);
  }
  return item as Message;
}

/** Where the first row has a format, and a later one has not, that one is named. */
function checkAlike([head, ...others]: Row[], formats: RowFormat[]): void {
  const lacks = ({ value }: Row, format: RowFormat): string | undefined =>
    FORMAT_KEYS[format].find((key) => value[key] === undefined || value[key] === null);
  const format = formats.find((each) => lacks(head, each) === undefined);
  const other = format && others.find((row) => lacks(row, format) !== undefined);
  if (!other) return;
  throw new UserError(
    `${other.place}: "${lacks(other, format)}" is missing or null, but ${head.place} is a row of format ${format} (expected one format in a file). ` +
      "Mend the row, or split the file.",
  );
}

/** A null in place of what a format needs, in a sentence: it counts as no such key. */
export function emptyIn(rows: Row[], keys: readonly string[]): string {
  for (const { value, place } of rows) {
    const key = keys.find((each) => value[each] === null);
    if (key !== undefined) return `In ${place}, "${key}" is null. `;
  }
  return "";
}

function keysOf(rows: Row[]): string[] {
  return [...new Set(rows.slice(0, ROWS_LOOKED_AT).flatMap(({ value }) => Object.keys(value)))];
}

function list(names: string[]): string {
  return keyList(names) || "none";
}

function meant(name: string, known: string[]): string {
  const near = nearestName(name.slice(0, LONGEST_NAME), known);
  return near === undefined ? "" : ` Did you mean "${near}"?`;
}
