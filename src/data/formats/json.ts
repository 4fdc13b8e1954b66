// JSON in one piece: an array of objects, or an object with the rows under "data", "train" or "rows"; or JSON lines,
// which some sets name .json. A file is parsed as a whole, up to 500 MiB; lines are read as a stream.
import { UserError } from "../../errors.js";
import { parseJsonRow } from "../json-values.js";
import { quoted } from "../limits.js";
import { asObject, describe, keyList, type Row } from "../rows.js";
import { inBatches } from "./batches.js";
import type { FileFormat, FileInput } from "./format.js";
import { jsonl } from "./jsonl.js";
import { FORMAT_LIMITS } from "./limits.js";
import { wholeText } from "./lines.js";

/** Keys under which files keep their rows. */
const WRAPPERS = ["data", "train", "rows"];

export const json: FileFormat = {
  name: "json",
  endings: [".json"],
  fits: (head) => /^\s*\[\s*[\]{]/.test(Buffer.from(head).toString("utf8")) || isWrapped(head),
  async *read(input) {
    if (await holdsLines(input)) yield* jsonl.read(input);
    else yield* inBatches(rowsOf(await wholeText(input.bytes(), input.path), input.path));
  },
};

const isWrapped = (head: Uint8Array): boolean =>
  new RegExp(`^\\s*\\{\\s*"(${WRAPPERS.join("|")})"\\s*:\\s*\\[`).test(Buffer.from(head).toString("utf8"));

/** Whether the first line is a whole object and another line follows. */
async function holdsLines({ bytes }: FileInput): Promise<boolean> {
  let head = "";
  for await (const chunk of bytes()) {
    head += Buffer.from(chunk).toString("latin1");
    const [first, ...rest] = head.trimStart().split("\n");
    if (!first.startsWith("{") || head.length > FORMAT_LIMITS.row) return false;
    if (rest.some((line) => line.trim() !== "")) return parses(first);
  }
  return false;
}

function* rowsOf(text: string, path: string): Generator<[Row, number]> {
  if (text.trim() === "") return;
  let value: unknown;
  try {
    value = parseJsonRow(text);
  } catch (error) {
    throw new UserError(
      `${placeOfDamage(text, path)}: not valid JSON: ${quoted((error as Error).message)}. If the file has one object ` +
        "per line, let its name end in .jsonl.",
    );
  }
  const items = Array.isArray(value) ? value : wrapped(value, path);
  const each = text.length / Math.max(1, items.length);
  for (const [i, item] of items.entries()) {
    const place = `${path}: row ${i + 1}`;
    yield [{ value: asObject(item, place), place }, each];
  }
}

function wrapped(value: unknown, path: string): unknown[] {
  if (typeof value === "object" && value !== null) {
    const found = WRAPPERS.filter((name) => Array.isArray((value as Record<string, unknown>)[name]));
    if (found.length === 1) return (value as Record<string, unknown[]>)[found[0]];
  }
  throw new UserError(
    `${path}: the file holds ${describe(value)} (expected an array of objects, or one under ${keyList(WRAPPERS)}). Put the ` +
      "rows in one array, or one per line in a .jsonl file.",
  );
}

/**
 * Finds the damage, since JSON.parse names no line: parses the array's objects one by one up to the first damaged one.
 */
function placeOfDamage(text: string, path: string): string {
  // Under a key, the array is one level deeper.
  let depth = text.trimStart().startsWith("{") ? -1 : 0;
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
