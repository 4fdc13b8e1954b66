// JSON lines: one object per line; blank lines count as lines but hold no row. Read line by line, so the file may have
// any size.
import { UserError } from "../../errors.js";
import { parseJsonRow } from "../json-values.js";
import { quoted } from "../limits.js";
import { asObject, type Row } from "../rows.js";
import { inBatches } from "./batches.js";
import type { FileFormat, FileInput } from "./format.js";
import { decodeUtf8, linesOf } from "./lines.js";

export const jsonl: FileFormat = {
  name: "jsonl",
  endings: [".jsonl", ".ndjson", ".jsonlines"],
  fits: (head) => firstLine(head).startsWith("{"),
  read: (input) => inBatches(rowsOf(input)),
};

async function* rowsOf({ path, bytes }: FileInput): AsyncGenerator<[Row, number]> {
  for await (const { line, number } of linesOf(bytes(), path)) {
    const place = `${path}:${number}`;
    const text = decodeUtf8(line, place).trim();
    if (text !== "") yield [{ value: asObject(parseLine(text, place), place), place }, line.length];
  }
}

function parseLine(text: string, place: string): unknown {
  try {
    return parseJsonRow(text);
  } catch (error) {
    throw new UserError(
      `${place}: not valid JSON: ${quoted((error as Error).message)}. Each line of a .jsonl file must be one object.`,
    );
  }
}

const firstLine = (head: Uint8Array): string => Buffer.from(head).toString("utf8").trimStart().split("\n", 1)[0];
