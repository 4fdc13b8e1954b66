// Reading a data file into rows: .jsonl, .json (an array of objects) and .txt (the whole file is one row). Every row
// carries the place it came from, so that each later complaint can name file and line. What a row means is not known
// here. JSON lines are read in chunks: the size of the file is bounded by memory alone, not by the longest string.
import { closeSync, readSync } from "node:fs";
import { extname } from "node:path";
import { UserError } from "../errors.js";
import { openForReading, readWholeFile, statOf } from "../read-file.js";
import { quoted } from "./limits.js";

export interface Row {
  value: Record<string, unknown>;
  /** Where the row stands, as in "data/train.jsonl:17". */
  place: string;
}

const CHUNK_BYTES = 1 << 22;
const LONGEST_TEXT_BYTES = 500 * 2 ** 20;
const NEWLINE = 10;

/** All rows of a file, in its order. Errors: UserError for a file that cannot be read as its ending says. */
export function readRows(path: string): Row[] {
  const ending = extname(path).toLowerCase();
  checkFile(path);
  if (ending === ".parquet") {
    throw new UserError(
      `${path}: Parquet files are not read yet (expected .jsonl, .json or .txt). ` +
        "Convert it once: python3 -c 'import datasets; " +
        `datasets.Dataset.from_parquet("${path}").to_json("train.jsonl")'.`,
    );
  }
  if (ending !== ".jsonl" && ending !== ".json" && ending !== ".txt") {
    throw new UserError(
      `${path}: files ending in "${ending}" are not known (expected .jsonl, .json or .txt). Rename or convert ` +
        "the file.",
    );
  }
  const rows = ending === ".jsonl" ? jsonLines(path) : ending === ".json" ? jsonArray(path) : wholeText(path);
  if (rows.length === 0) throw new UserError(`${path}: the file has no rows (expected at least one).`);
  return rows;
}

function checkFile(path: string): void {
  const stat = statOf(path);
  if (stat === undefined)
    throw new UserError(`${path}: there is no such file. Check the path; it is taken from the current folder.`);
  if (stat.isDirectory())
    throw new UserError(`${path}: this is a folder (expected a .jsonl, .json or .txt file). Name one file in it.`);
}

function jsonLines(path: string): Row[] {
  const rows: Row[] = [];
  let number = 0;
  for (const bytes of fileLines(path)) {
    const place = `${path}:${++number}`;
    const line = decodeUtf8(bytes, place).trim();
    if (line === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new UserError(
        `${place}: not valid JSON: ${oneLine(error)}. Each line of a .jsonl file must be one object.`,
      );
    }
    rows.push({ value: asObject(value, place), place });
  }
  return rows;
}

function jsonArray(path: string): Row[] {
  const text = wholeFile(path);
  if (text.trim() === "") return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${placeOfDamage(text, path)}: not valid JSON: ${oneLine(error)}. If the file has one object per line, let ` +
        "its name end in .jsonl.",
    );
  }
  if (!Array.isArray(value)) {
    throw new UserError(
      `${path}: the file holds ${describe(value)} (expected an array of objects). Put the rows in one array, or ` +
        "one per line in a .jsonl file.",
    );
  }
  return value.map((item: unknown, i) => {
    const place = `${path}: row ${i + 1}`;
    return { value: asObject(item, place), place };
  });
}

/** JSON.parse tells no line: the objects of the array are parsed one by one until the first that is damaged. */
function placeOfDamage(text: string, path: string): string {
  let depth = 0;
  let row = 0;
  let start = 0;
  for (const { 0: sign, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if (sign === "{" || sign === "[") {
      if (++depth === 2) [row, start] = [row + 1, index];
    } else if ((sign === "}" || sign === "]") && --depth === 1 && !parses(text.slice(start, index + 1))) {
      break;
    }
  }
  return row === 0 ? path : `${path}:${text.slice(0, start).split("\n").length}: row ${row}`;
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function oneLine(error: unknown): string {
  return quoted((error as Error).message);
}

function wholeText(path: string): Row[] {
  const text = wholeFile(path);
  return text.trim() === "" ? [] : [{ value: { text }, place: `${path}:1` }];
}

function wholeFile(path: string): string {
  const size = statOf(path)?.size ?? 0;
  if (size > LONGEST_TEXT_BYTES) {
    throw new UserError(
      `${path}: ${size} bytes are too many for one text (expected at most ${LONGEST_TEXT_BYTES}). Split it into ` +
        "rows of a .jsonl file.",
    );
  }
  return decodeUtf8(readWholeFile(path, LONGEST_TEXT_BYTES), path);
}

/** The lines of a file as bytes, without their newlines; a line is valid until the next is asked for. */
function* fileLines(path: string): Generator<Uint8Array> {
  const file = openForReading(path);
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let parts: Buffer[] = [];
    for (;;) {
      const count = readSync(file, chunk);
      if (count === 0) break;
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1 && end < count; end = chunk.indexOf(NEWLINE, start)) {
        const line = chunk.subarray(start, end);
        yield parts.length === 0 ? line : Buffer.concat([...parts, line]);
        parts = [];
        start = end + 1;
      }
      // The next read overwrites the chunk: what is left of it must be copied.
      if (start < count) parts.push(Buffer.from(chunk.subarray(start, count)));
    }
    if (parts.length > 0) yield Buffer.concat(parts);
  } finally {
    closeSync(file);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function decodeUtf8(bytes: Uint8Array, place: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new UserError(`${place}: the bytes are not UTF-8. Save the file as UTF-8.`);
  }
}

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

/** Names in quotation marks for a message, as many as one can hold. */
export function keyList(names: readonly string[]): string {
  const shown = names
    .slice(0, SHOWN_KEYS)
    .map((name) => `"${quoted(name)}"`)
    .join(", ");
  return names.length > SHOWN_KEYS ? `${shown} and ${names.length - SHOWN_KEYS} more` : shown;
}
