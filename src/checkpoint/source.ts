// Where a model comes from: its settings, its tokenizer's files and its weights, in whatever form. All code that takes
// a model as input goes through here. Files are open only between `openWeights` and the `close` of its result.
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { readWholeFile, statOf } from "../read-file.js";
import type { DType } from "../torch/tensor.js";
import { statedDtype } from "./config-text.js";
import { openFolder, readConfig } from "./folder.js";
import { openGguf } from "./gguf/open.js";
import { COPIED_FILES, type Folder, type ModelFiles, type ModelSource } from "./model-files.js";
import { foldTemplates, namedTemplateFiles } from "./named-templates.js";
import type { Quantisation } from "./quantised/format.js";

export { COPIED_FILES, type ModelFiles, type ModelSource } from "./model-files.js";

/** The model at `path`, a Hugging Face folder or a .gguf file. Errors: UserError when there is none. */
export function openSource(path: string): ModelSource {
  if (/\.gguf$/i.test(path) && statOf(path)?.isDirectory() !== true) return openGguf(path);
  const { config, path: configPath, quantisation } = readConfig(path);
  const source = { ...folderFiles(path), config, configPath, openWeights: () => openFolder(path) };
  if (quantisation === null) return source;
  const dtype = quantisation.exactIn ?? statedDtype(config);
  return {
    ...source,
    openWeights: () => decodedFolder(path, quantisation, dtype),
    decoding: `weights are ${quantisation.words}, and decoded as they are read: to ${dtype} unless another dtype is asked for. What is saved is not quantised, and its config.json has no quantization_config`,
  };
}

/** Errors: UserError as `openFolder`, and for packed tensors that do not fit together. */
function decodedFolder(dir: string, quantisation: Quantisation, dtype: DType): Folder {
  const packed = openFolder(dir);
  try {
    return quantisation.decoded(packed, dtype);
  } catch (failure) {
    packed.close();
    throw failure;
  }
}

/** The files of a folder, which need not hold a model. */
export function folderFiles(dir: string): ModelFiles {
  return {
    path: dir,
    readFile: (name) => {
      const path = join(dir, name);
      return statOf(path)?.isFile() ? readWholeFile(path) : undefined;
    },
    outside: (name) => {
      const path = join(dir, name);
      const real = existsSync(path) ? realpathSync(path) : "";
      return real === "" || staysInside(real, realpathSync(dir)) ? undefined : real;
    },
    list: (folder) => (statOf(join(dir, folder))?.isDirectory() ? readdirSync(join(dir, folder)) : []),
  };
}

/**
 * Whether a file is in the folder, or in the blobs of the hub cache (ours or Hugging Face's) that the folder belongs
 * to.
 */
function staysInside(real: string, folder: string): boolean {
  if (real.startsWith(`${folder}/`)) return true;
  const isBlob = /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(basename(real));
  const isCommit = /^[0-9a-f]{40}$/.test(basename(folder));
  const model = basename(dirname(folder)) === "snapshots" ? resolve(folder, "../..") : dirname(folder);
  return isBlob && isCommit && dirname(real) === join(model, "blobs");
}

/** The files beside config.json that are copied when a model is saved. */
export function copiedFiles(files: ModelFiles): Map<string, Uint8Array> {
  const copied = new Map<string, Uint8Array>();
  for (const name of COPIED_FILES) {
    const bytes = files.outside?.(name) === undefined ? files.readFile(name) : undefined;
    if (bytes) copied.set(name, bytes);
  }
  return foldTemplates(files, copied);
}

/** Notes on a source whose model is saved again. */
export const sourceNotes = (source: ModelSource): string[] => [
  ...(source.decoding === undefined ? [] : [source.decoding]),
  ...filesLeftOut(source),
];

/** A sentence for each file that `copiedFiles` leaves out. */
export function filesLeftOut(files: ModelFiles): string[] {
  return [...COPIED_FILES, ...namedTemplateFiles(files)].flatMap((name) => {
    const real = files.outside?.(name);
    return real === undefined
      ? []
      : [
          `${join(files.path, name)} is a link to ${real}, outside the model's folder, and is not copied; put the file in its place to have it in what is saved`,
        ];
  });
}

/** The source with its small files as they are now, even if the folder changes. */
export function withFilesKept(source: ModelSource): ModelSource {
  const templates = namedTemplateFiles(source);
  const names = ["config.json", ...COPIED_FILES, ...templates];
  const kept = new Map(names.map((name) => [name, { bytes: source.readFile(name), outside: source.outside?.(name) }]));
  return {
    ...source,
    readFile: (name) => (kept.has(name) ? kept.get(name)?.bytes : source.readFile(name)),
    outside: (name) => (kept.has(name) ? kept.get(name)?.outside : source.outside?.(name)),
    list: (folder) => templates.filter((name) => dirname(name) === folder).map((name) => basename(name)),
  };
}

/** The source with some of its small files replaced; `undefined` removes one. */
export function withFiles(source: ModelSource, changed: Record<string, Uint8Array | undefined>): ModelSource {
  const isChanged = (name: string): boolean => Object.hasOwn(changed, name);
  return {
    ...source,
    readFile: (name) => (isChanged(name) ? changed[name] : source.readFile(name)),
    outside: (name) => (isChanged(name) ? undefined : source.outside?.(name)),
  };
}
