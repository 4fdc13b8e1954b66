// Which tokens end a text, as the files of a model say it: read from them, and put before those that are there already.
// transformers' generate takes them from generation_config.json, and from config.json where there is no such file.
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { parseJsonObject } from "./folder.js";
import type { ModelFiles } from "./model-files.js";
import { textConfig } from "./config/text-config.js";

export const GENERATION_FILE = "generation_config.json";
const CONFIG_FILE = "config.json";
/** What transformers takes from config.json for a generation_config.json that is not there. */
const SHARED_KEYS = ["bos_token_id", "pad_token_id", "decoder_start_token_id"];

type Json = Record<string, unknown>;

/** The end tokens that a file names: an id, a list of them, null or absent. Errors: UserError when it is no JSON object. */
export const endIdsIn = (files: ModelFiles, name: string): number[] => idsOf(read(files, name)?.value);

/**
 * The text of generation_config.json with `id` first among its end tokens; undefined where transformers has it so already. `usual` is
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
  // In the text, so that numbers stay written as they are: 1.0 is another type than 1 to transformers.
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
