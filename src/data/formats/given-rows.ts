// Rows that a program gives instead of files. They are read like a file of JSON lines, so a row means the same in both
// cases: what JSON leaves out is left out, and the program's own objects are never changed.
import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import { jsonl } from "./jsonl.js";
import type { OpenFile } from "./open-file.js";

/** Opens rows under a name that messages use for their places: "train_file (rows given):3". */
export function openGiven(rows: readonly unknown[], path: string): OpenFile {
  const input = { path, bytes: () => linesOf(rows, path), compression: undefined };
  return { path, format: jsonl, compression: undefined, rows: () => jsonl.read(input), bytesRead: () => 0 };
}

async function* linesOf(rows: readonly unknown[], path: string): AsyncGenerator<Uint8Array> {
  for (const [i, row] of rows.entries()) yield Buffer.from(`${lineOf(row, `${path}:${i + 1}`)}\n`);
}

function lineOf(row: unknown, place: string): string {
  let line: string | undefined;
  try {
    line = JSON.stringify(row);
  } catch (failure) {
    throw new UserError(
      `${place}: the row cannot be written as JSON: ${(failure as Error).message.split("\n", 1)[0]}.`,
    );
  }
  // A function, for example, has no JSON.
  if (line === undefined)
    throw new UserError(`${place}: the row is ${describe(row)} (expected an object such as {"text": "..."}).`);
  return line;
}
