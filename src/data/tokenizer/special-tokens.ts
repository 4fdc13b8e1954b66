// Which tokens have a role in a model: the beginning of a text, its end, and so on. tokenizer_config.json names them.
// In folders of older transformers special_tokens_map.json does, too, and then takes precedence, as it does there.
import { join } from "node:path";

import { type Json, readObject, type TokenizerFiles } from "./files.js";

const CONFIG = "tokenizer_config.json";
const OLDER = "special_tokens_map.json";
const NAMED = /^(bos|eos|unk|pad|sep|cls|mask)_token$/;

export interface NamedToken {
  content: string;
  /** The file that names the token. */
  path: string;
}

/**
 * Named tokens, by the names that chat templates use. `config` is tokenizer_config.json. Errors: UserError for a
 * damaged file.
 */
export function namedTokens(files: TokenizerFiles, config: Json): Map<string, NamedToken> {
  // A newer config names all of its tokens itself; then an older file beside it is ignored.
  const older = config.added_tokens_decoder === undefined ? (readObject(files, OLDER)?.value ?? {}) : {};
  const tokens = new Map<string, NamedToken>();
  for (const [file, named] of [[CONFIG, config] as const, [OLDER, older] as const]) {
    for (const [key, value] of Object.entries(named)) {
      if (!NAMED.test(key)) continue;
      const content = typeof value === "object" && value !== null ? (value as Json).content : value;
      if (typeof content === "string") tokens.set(key, { content, path: join(files.path, file) });
      else tokens.delete(key);
    }
  }
  return tokens;
}
