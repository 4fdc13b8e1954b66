// The files that a source's name stands for: the file itself, those that match a glob, or those of a folder: saved by
// `datasets`, with a card, or any other. Sorted by name, or in the order that `datasets` wrote down.
import { join } from "node:path";
import { UserError } from "../../errors.js";
import { readWholeFile, statOf } from "../../read-file.js";
import { keyList } from "../rows.js";
import { CARD, chooseFiles, DEFAULT_SPLIT } from "./choose-files.js";
import { filesIn, globFiles, isGlob } from "./glob.js";
import type { Source } from "./source.js";

/** Most bytes of the small files that sets have beside their rows. */
const SIDE_BYTES = 2 ** 26;

/** Errors: UserError if there are none. */
export async function filesOf(source: Source): Promise<string[]> {
  const { file, split, subset } = source;
  const stats = statOf(file);
  if (stats?.isDirectory()) return filesOfFolder(source);
  if (split !== undefined || subset !== undefined) {
    throw new UserError(
      `${file}: [${[subset, split].filter(Boolean).join("/")}] is for a folder or a set on a hub, not for a file. Remove it, or check the name.`,
    );
  }
  if (stats !== undefined) return [file];
  if (isGlob(file)) {
    const found = globFiles(file);
    if (found.length > 0) return found;
    throw new UserError(
      `${file}: no file fits. Check the path; it is taken from the current folder.${inBrackets(file)}`,
    );
  }
  throw new UserError(`${file}: there is no such file. Check the path; it is taken from the current folder.`);
}

async function filesOfFolder(source: Source): Promise<string[]> {
  const { file: folder, split } = source;
  const state = recordIn(folder, "state.json");
  if (Array.isArray(state?._data_files)) return savedFiles(folder, state._data_files);
  const splits = recordIn(folder, "dataset_dict.json")?.splits;
  if (Array.isArray(splits)) {
    const wanted = split ?? (splits.length === 1 ? String(splits[0]) : DEFAULT_SPLIT);
    if (splits.includes(wanted)) return filesOfFolder({ file: join(folder, wanted) });
    throw new UserError(
      `${folder}: has no split "${wanted}" (found ${keyList(splits.map(String))}). Name one, as in ${folder}[${splits[0]}].`,
    );
  }
  const card = statOf(join(folder, CARD))?.isFile()
    ? readWholeFile(join(folder, CARD), SIDE_BYTES).toString("utf8")
    : "";
  return (await chooseFiles(filesIn(folder), source, card)).map((path) => join(folder, path));
}

/** The files that `save_to_disk` lists, in its order. */
function savedFiles(folder: string, listed: unknown[]): string[] {
  return listed.map((item) => {
    const name = (item as { filename?: unknown } | null)?.filename;
    if (typeof name === "string" && /^[\w.-]+$/.test(name) && statOf(join(folder, name))?.isFile())
      return join(folder, name);
    throw new UserError(`${folder}: state.json lists ${JSON.stringify(name)}, which is not there. Save the set again.`);
  });
}

function recordIn(folder: string, name: string): Record<string, unknown> | undefined {
  const path = join(folder, name);
  if (statOf(path)?.isFile() !== true) return undefined;
  try {
    const value: unknown = JSON.parse(readWholeFile(path, SIDE_BYTES).toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    return undefined; // another program's file of this name
  }
}

const inBrackets = (file: string): string =>
  /[[\]]/.test(file) ? " For a part of a file write its split, rows, or both, as [test], [:100] or [test:100]." : "";
