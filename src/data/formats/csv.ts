// Tables as text: cells between commas, semicolons or tabs, column names in the first line. Every cell is a text; a
// list in a cell, such as messages, is written as JSON.
import { Readable } from "node:stream";
import { UserError } from "../../errors.js";
import { quoted } from "../limits.js";
import { keyList, type Row } from "../rows.js";
import { inBatches } from "./batches.js";
import type { FileFormat, FileInput } from "./format.js";
import { FORMAT_LIMITS } from "./limits.js";

export const csv: FileFormat = {
  name: "csv",
  endings: [".csv"],
  fits: () => false,
  read: (input) => inBatches(rowsOf(input, [",", ";"])),
};

export const tsv: FileFormat = {
  name: "tsv",
  endings: [".tsv", ".tab"],
  fits: () => false,
  read: (input) => inBatches(rowsOf(input, ["\t"])),
};

interface Parsed {
  record: string[];
  info: { lines: number; bytes: number };
}

async function* rowsOf({ path, bytes }: FileInput, delimiters: string[]): AsyncGenerator<[Row, number]> {
  const { parse } = await import("csv-parse");
  const parser = parse({
    bom: true,
    info: true,
    delimiter: await delimiterOf(bytes(), delimiters),
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: FORMAT_LIMITS.row,
  });
  const source = Readable.from(strictUtf8(bytes(), path), { objectMode: false });
  source.on("error", (failure) => parser.destroy(failure)).pipe(parser);
  let names: string[] | undefined;
  let number = 0;
  let before = 0;
  try {
    for await (const { record, info } of parser as AsyncIterable<Parsed>) {
      if (names === undefined) names = namesOf(record, path);
      else {
        const place = `${path}: row ${++number}, line ${info.lines}`;
        if (record.length !== names.length) {
          throw new UserError(
            `${place}: ${record.length} cells (expected ${names.length}, as the first line has names). Mend the row; a cell with ` +
              "a delimiter or a line break in it stands in quotation marks.",
          );
        }
        const value = Object.fromEntries(names.map((name, i) => [name, record[i]]));
        yield [{ value, place }, info.bytes - before];
      }
      before = info.bytes;
    }
  } catch (failure) {
    if (failure instanceof UserError || !(failure instanceof Error && "code" in failure)) throw failure;
    throw new UserError(
      `${path}: row ${number + 1}: ${quoted(failure.message)}. Mend the row, or save the table again.`,
    );
  } finally {
    source.destroy();
  }
}

function namesOf(record: string[], path: string): string[] {
  const names = record.map((name) => name.trim());
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  const fault = names.includes("") ? "a column without a name" : twice && `two columns "${quoted(twice)}"`;
  if (fault)
    throw new UserError(`${path}: ${fault} in the first line (found ${keyList(names)}). Name each column once.`);
  return names;
}

/** The separator that occurs most often in the first line. */
async function delimiterOf(bytes: AsyncIterable<Uint8Array>, among: string[]): Promise<string> {
  if (among.length === 1) return among[0];
  for await (const chunk of bytes) {
    const [first] = Buffer.from(chunk.subarray(0, FORMAT_LIMITS.head)).toString("utf8").split("\n", 1);
    const count = (sign: string): number => first.split(sign).length;
    return among.reduce((best, sign) => (count(sign) > count(best) ? sign : best));
  }
  return among[0];
}

/** Errors: UserError for bytes that are not UTF-8; the parser would replace them silently. */
async function* strictUtf8(bytes: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  for await (const chunk of bytes) {
    try {
      decoder.decode(chunk, { stream: true });
    } catch {
      throw new UserError(`${path}: bytes behind line ${line} are not UTF-8. Save the file as UTF-8.`);
    }
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) line++;
    yield chunk;
  }
}
