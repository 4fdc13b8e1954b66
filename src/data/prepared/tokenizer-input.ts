// A tokenizer on its way to other threads, and into the key of the cache: the files that made it, as they were read. So a
// thread has the same tokenizer whatever becomes of the folder meanwhile, and no file that counts can be forgotten.
import type { TokenizerFiles } from "../tokenizer/files.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/tokenizer.js";

export interface TokenizerInput {
  path: string;
  /** By name; undefined for one that was looked for and is not there. */
  files: ReadonlyMap<string, Uint8Array | undefined>;
  /** Names of the files in folders that were looked into. */
  lists: ReadonlyMap<string, string[]>;
}

/** The tokenizer, and what was read for it. Errors: as loadTokenizer. */
export function loadWithInput(from: TokenizerFiles): { tokenizer: Tokenizer; input: TokenizerInput } {
  const files = new Map<string, Uint8Array | undefined>();
  const lists = new Map<string, string[]>();
  const tokenizer = loadTokenizer({
    path: from.path,
    readFile: (name) => {
      if (!files.has(name)) files.set(name, from.readFile(name));
      return files.get(name);
    },
    list: (folder) => {
      if (!lists.has(folder)) lists.set(folder, from.list?.(folder) ?? []);
      return lists.get(folder) ?? [];
    },
  });
  return { tokenizer, input: { path: from.path, files, lists } };
}

/** The same tokenizer again. */
export const loadFromInput = ({ path, files, lists }: TokenizerInput): Tokenizer =>
  loadTokenizer({ path, readFile: (name) => files.get(name), list: (folder) => lists.get(folder) ?? [] });
