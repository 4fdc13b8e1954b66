// A tokenizer on its way to other threads, and into the key of the cache: the files that it was made of, as they were
// read. So all threads have the same tokenizer even if the folder changes, and no file that matters can be forgotten.
import type { TokenizerFiles } from "../tokenizer/files.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/tokenizer.js";

export interface TokenizerInput {
  path: string;
  /** Contents by name; undefined for a file that was looked for but does not exist. */
  files: ReadonlyMap<string, Uint8Array | undefined>;
  /** Names of the files in each folder that was listed. */
  lists: ReadonlyMap<string, string[]>;
}

/** The tokenizer, and all that was read for it. Errors: as loadTokenizer. */
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

/** The same tokenizer, made again. */
export const loadFromInput = ({ path, files, lists }: TokenizerInput): Tokenizer =>
  loadTokenizer({ path, readFile: (name) => files.get(name), list: (folder) => lists.get(folder) ?? [] });
