// The small files that a tokenizer is made of, by name, wherever they are: read as text or as a JSON object. Damaged
// ones, and ones larger than any model's, are refused.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../../errors.js";
import { TOKENIZER_LIMITS as LIMITS, quoted } from "../limits.js";

export type Json = Record<string, unknown>;

/** The files of a model by name, wherever they are. */
export interface TokenizerFiles {
  path: string;
  readFile(name: string): Uint8Array | undefined;
  /** Names of the files in a folder beside them; empty if there is none, or if only single files can be read. */
  list?(folder: string): string[];
}

export function folderFiles(folder: string): TokenizerFiles {
  return {
    path: folder,
    readFile: (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : undefined),
    list: (name) => (existsSync(join(folder, name)) ? readdirSync(join(folder, name)) : []),
  };
}

/** Undefined if there is no such file. Errors: UserError for one that is too large. */
export function readText(files: TokenizerFiles, name: string): string | undefined {
  const bytes = files.readFile(name);
  if (bytes === undefined || bytes.length <= LIMITS.file) return bytes && Buffer.from(bytes).toString("utf8");
  const path = join(files.path, name);
  throw new UserError(
    `${path}: the file has ${bytes.length} bytes (expected at most ${LIMITS.file}). Fetch it again; no model's is so large.`,
  );
}

/** Undefined if there is no such file; `bytes` is its length. Errors: UserError if it holds no JSON object. */
export function readObject(files: TokenizerFiles, name: string): { value: Json; bytes: number } | undefined {
  const text = readText(files, name);
  if (text === undefined) return undefined;
  const path = join(files.path, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${path}: not valid JSON: ${quoted((error as Error).message)}. The file is damaged or cut short; fetch it again.`,
    );
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return { value: value as Json, bytes: text.length };
  throw new UserError(`${path}: the file holds ${quoted(text).slice(0, 40)} (expected an object).`);
}
