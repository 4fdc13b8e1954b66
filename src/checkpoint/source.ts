// Where a model comes from: its settings, its tokenizer's files and its weights, whatever holds them. Everything that
// takes a model as input goes through here. Nothing stays open but between `openWeights` and the `close` of its result.
import { join } from "node:path";

import { readWholeFile, statOf } from "../read-file.js";
import { type Folder, openFolder, readConfig } from "./folder.js";
import { openGguf } from "./gguf/open.js";

/** The files beside the weights, by the names they have in a Hugging Face folder. */
export interface ModelFiles {
  /** As the person gave it, for errors. */
  path: string;
  /** The bytes of the file `name`, undefined where there is none. */
  readFile(name: string): Uint8Array | undefined;
}

export interface ModelSource extends ModelFiles {
  /** config.json, parsed. */
  config: Record<string, unknown>;
  /** What errors about `config` name. */
  configPath: string;
  /** The weights under their Hugging Face names; the caller closes them. */
  openWeights(): Folder;
}

/** The model at `path`, a Hugging Face folder or a .gguf file. Throws a UserError when there is none. */
export function openSource(path: string): ModelSource {
  if (/\.gguf$/i.test(path) && statOf(path)?.isDirectory() !== true) return openGguf(path);
  const { config, path: configPath } = readConfig(path);
  return { ...folderFiles(path), config, configPath, openWeights: () => openFolder(path) };
}

/** The files of a folder, which need not hold a model. */
export function folderFiles(dir: string): ModelFiles {
  return {
    path: dir,
    readFile: (name) => {
      const path = join(dir, name);
      return statOf(path)?.isFile() ? readWholeFile(path) : undefined;
    },
  };
}
