// A folder that exists completely or not at all: it is filled beside its place under the name DIR.partial, put on the
// disk, and renamed. A folder that was there before stands aside as DIR.previous until then, and is back after any
// failure. Limits: the folder holds files only; two processes must not save to one place at once.
import { type Dirent, existsSync, readdirSync, realpathSync, renameSync, rmSync } from "node:fs";
import { dirname, resolve } from "node:path";

import { UserError } from "../errors.js";
import { makeFolders, reasonOf, sync, syncFolder } from "./disk.js";
import { INDEX_FILE, SINGLE_FILE } from "./folder.js";

/**
 * Calls `fill` with an empty folder to write to, and puts the result in place of `dir`.
 * Throws a UserError, and leaves `dir` as it was, when something fails, or when `dir` holds anything that no checkpoint
 * does: it would be lost.
 */
export function saveFolder(dir: string, fill: (side: string) => void): void {
  const target = existsSync(dir) ? realpathSync(dir) : resolve(dir);
  const side = `${target}.partial`;
  const aside = `${target}.previous`;
  // A run that was killed between its two renames left the older folder aside: it is the one that counts.
  if (existsSync(aside) && !existsSync(target)) renameSync(aside, target);
  checkReplaceable(target);
  remove(aside);
  remove(side);
  try {
    makeFolders(side);
    fill(side);
    syncFolder(side);
    putInPlace(target, side, aside);
  } catch (failure) {
    remove(side);
    throw withReassurance(failure, target);
  }
  sync(dirname(target));
  remove(aside);
}

function putInPlace(target: string, side: string, aside: string): void {
  const replaces = existsSync(target);
  if (replaces) renameSync(target, aside);
  try {
    renameSync(side, target);
  } catch (failure) {
    if (replaces) renameSync(aside, target);
    throw failure;
  }
}

function checkReplaceable(target: string): void {
  if (!existsSync(target)) return;
  const foreign = foreignContent(target);
  if (foreign === undefined) return;
  throw new UserError(
    `${target}: is not replaced, because ${foreign} (expected a new or empty folder, or one that holds only ` +
      "a model). Choose another folder.",
  );
}

function foreignContent(target: string): string | undefined {
  let entries: Dirent[];
  try {
    entries = readdirSync(target, { withFileTypes: true });
  } catch {
    return "it is no folder that can be read";
  }
  const folder = entries.find((entry) => entry.isDirectory());
  if (folder) return `it holds the folder ${folder.name}`;
  const isModel = entries.some(({ name }) => name === SINGLE_FILE || name === INDEX_FILE);
  return isModel || entries.length === 0 ? undefined : `it holds ${entries[0].name} and no model`;
}

const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

function withReassurance(failure: unknown, target: string): unknown {
  const tail = "Nothing that was saved before was touched.";
  if (failure instanceof UserError) return new UserError(`${failure.message} ${tail}`, { cause: failure });
  if (failure instanceof Error && "errno" in failure) {
    return new UserError(`${target}: cannot be saved: ${reasonOf(failure)}. ${tail}`, { cause: failure });
  }
  return failure;
}
