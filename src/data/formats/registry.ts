// The file formats, in the order in which they are looked for. A new one is a file and a line here.
import { UserError } from "../../errors.js";
import type { FileFormat } from "./format.js";
import { json } from "./json.js";
import { jsonl } from "./jsonl.js";
import { text } from "./text.js";

export const FORMATS: readonly FileFormat[] = [jsonl, json, text];

export const FORMAT_NAMES: readonly string[] = FORMATS.map(({ name }) => name);
export const ENDINGS: readonly string[] = FORMATS.flatMap(({ endings }) => endings);

/** By its ending, else by its first bytes. Errors: UserError where neither tells. */
export function detectFormat(path: string, head: Uint8Array): FileFormat {
  const name = path.toLowerCase();
  const named = FORMATS.find(({ endings }) => endings.some((ending) => name.endsWith(ending)));
  const found = named ?? FORMATS.find((format) => format.fits(head));
  if (found) return found;
  throw new UserError(
    `${path}: neither its name nor its first bytes tell what the file is (expected ${ENDINGS.join(", ")}). Rename or ` +
      "convert the file.",
  );
}
