// Which tokens end a text, according to a model's files: reads them, and puts another one first. transformers' generate
// takes them from generation_config.json, and from config.json if that file is missing.
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { parseJsonObject } from "./folder.js";
import type { ModelFiles } from "./model-files.js";
import { textConfig } from "./config/text-config.js";

export const GENERATION_FILE = "generation_config.json";
const CONFIG_FILE = "config.json";
/** Keys that transformers takes from config.json if generation_config.json is missing. */
const SHARED_KEYS = ["bos_token_id", "pad_token_id", "decoder_start_token_id"];

type Json = Record<string, unknown>;

/** The end tokens that a file names: an id, a list, null or missing. Errors: UserError when it holds no JSON object. */
export const endIdsIn = (files: ModelFiles, name: string): number[] => idsOf(read(files, name)?.value);

/**
 * The text of generation_config.json with `id` first among its end tokens; undefined if it is first already. `usual` is
 * the tokenizer's end token, for a model whose files name none.
 */
export function withEndFirst(files: ModelFiles, id: number, usual?: number): string | undefined {
  const own = read(files, GENERATION_FILE);
  const config = read(files, CONFIG_FILE)?.value ?? {};
  const named = idsOf(own?.value ?? config);
  if (named[0] === id) return undefined;
  const before = [named, idsOf(config), usual === undefined ? [] : [usual]].find(({ length }) => length > 0) ?? [];
  const ids = [id, ...before.filter((other) => other !== id)];
  const shared = Object.entries({ ...textConfig(config), ...config }).filter(
    ([key, value]) => SHARED_KEYS.includes(key) && value !== null,
  );
  const wanted = { ...(own?.value ?? Object.fromEntries(shared)), eos_token_id: ids };
  // Edited as text, so numbers keep their spelling: for transformers, 1.0 and 1 have different types.
  const list = `"eos_token_id": [${ids.join(", ")}]`;
  const edits = [/"eos_token_id"\s*:\s*(?:null|\d+|\[[\s\d,]*\])/, /^\s*\{(?=\s*")/].map((place, i) =>
    own?.text.replace(place, i === 0 ? list : `{\n  ${list},`),
  );
  return edits.find((text) => text !== undefined && says(text, wanted)) ?? `${JSON.stringify(wanted, null, 2)}\n`;
}

function read(files: ModelFiles, name: string): { text: string; value: Json } | undefined {
  const bytes = files.readFile(name);
  if (!bytes) return undefined;
  const text = Buffer.from(bytes).toString("utf8");
  return { text, value: parseJsonObject(() => text, join(files.path, name)) };
}

const idsOf = (value: Json = {}): number[] =>
  [value.eos_token_id ?? textConfig(value).eos_token_id].flat().filter((id): id is number => typeof id === "number");

function says(text: string, wanted: Json): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(text), wanted);
  } catch {
    return false;
  }
}
