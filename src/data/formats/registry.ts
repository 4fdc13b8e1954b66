// The file formats, in the order in which they are tried. A new one is a file and a line here.
import { UserError } from "../../errors.js";
import { arrow } from "./arrow.js";
import { COMPRESSIONS } from "./compression.js";
import { csv, tsv } from "./csv.js";
import type { FileFormat } from "./format.js";
import { json } from "./json.js";
import { jsonl } from "./jsonl.js";
import { parquet } from "./parquet.js";
import { text } from "./text.js";

export const FORMATS: readonly FileFormat[] = [json, jsonl, csv, tsv, parquet, arrow, text];

export const FORMAT_NAMES: readonly string[] = FORMATS.map(({ name }) => name);
export const ENDINGS: readonly string[] = FORMATS.flatMap(({ endings }) => endings);

/**
 * A file's format by the ending of its name, without a compression's ending; else by its first bytes. Errors: UserError
 * if neither tells.
 */
export function formatOfFile(path: string, head: Uint8Array): FileFormat {
  const name = nameInside(path);
  const named = FORMATS.find(({ endings }) => endings.some((ending) => name.endsWith(ending)));
  const found = named ?? FORMATS.find((format) => format.fits(head));
  if (found) return found;
  throw new UserError(
    `${path}: neither its name nor its first bytes tell what the file is (expected ${ENDINGS.join(", ")}). Rename or ` +
      "convert the file.",
  );
}

/** Whether a file's name has the ending of a known format. */
export const isKnownName = (path: string): boolean => ENDINGS.some((ending) => nameInside(path).endsWith(ending));

function nameInside(path: string): string {
  const name = path.toLowerCase();
  const around = COMPRESSIONS.flatMap(({ endings }) => endings).find((ending) => name.endsWith(ending));
  return around === undefined ? name : name.slice(0, -around.length);
}
