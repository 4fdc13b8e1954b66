// A folder that exists completely or not at all. It is filled beside its place under the name DIR.partial, gets its
// manifest, is put on the disk, and is renamed. A folder that was there before is set aside until then, and returns
// after any failure; a person's files in it move into the new one, see kept-files.ts. Limit: two processes must not
// save to one place at the same time.
import { existsSync, lstatSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

import { UserError } from "../../errors.js";
import { makeFolders, reasonOf, recordWrites, sync, syncFolder } from "./disk.js";
import { foreignEntries, isOlderResult, moveKeptFiles } from "./kept-files.js";
import { readManifest, writeManifest } from "./manifest.js";

/**
 * What may be replaced: only an empty folder; or one with our manifest; or also a run's folder from before manifests
 * existed.
 */
export type Replaced = "nothing" | "ours" | "ours or older";

/** Ending of the old folder's name meanwhile. Nobody names a folder like this, as what has this name is removed. */
const ASIDE = ".revmoe-previous";

/**
 * Calls `fill` with an empty folder to write to, and puts the result in the place of `dir`. Returns notes on a person's
 * files that were there. Errors: UserError when something fails, or when `dir` holds anything that may not be replaced;
 * `dir` is then as it was.
 */
export function saveFolder(dir: string, fill: (side: string) => void, replaced: Replaced = "ours"): string[] {
  const target = placeOf(dir);
  const side = `${target}.partial`;
  const aside = target + ASIDE;
  const notes = settleFolder(target);
  checkReplaceable(target, replaced);
  remove(side);
  try {
    makeFolders(side);
    writeManifest(
      side,
      recordWrites(side, () => fill(side)),
    );
    syncFolder(side);
    putInPlace(target, side, aside);
  } catch (failure) {
    remove(side);
    throw withReassurance(failure, target);
  }
  sync(dirname(target));
  return [...notes, ...settleFolder(target)];
}

/** Errors: the UserError that `saveFolder` would throw before it begins. */
export function checkReplaceable(dir: string, replaced: Replaced = "ours"): void {
  const target = placeOf(dir);
  const above = nearestAbove(target);
  if (!statSync(above).isDirectory())
    throw new UserError(`${target}: ${above} is a file (expected a folder). Choose another folder.`);
  const problem = whyNotReplaced(target, replaced);
  if (problem === undefined) {
    checkSide(`${target}.partial`);
    return;
  }
  const hint = replaced === "nothing" && readManifest(target) ? ", or replace this one with overwrite_output_dir" : "";
  throw new UserError(`${target}: is not replaced, because ${problem}. Choose another folder${hint}.`);
}

/**
 * Completes an earlier save to `dir` that was killed: the old folder returns, or a person's files in it move into the
 * new one. Returns notes.
 */
function settleFolder(dir: string): string[] {
  const target = placeOf(dir);
  const aside = target + ASIDE;
  if (!existsSync(aside)) return [];
  if (existsSync(target)) return moveKeptFiles(aside, target);
  renameSync(aside, target);
  sync(dirname(target));
  return [`${target} is the one from before: a save that was to replace it was cut off`];
}

/** `settleFolder` for every folder in `parent`. */
export function settleFolders(parent: string): string[] {
  if (!existsSync(parent)) return [];
  const left = readdirSync(parent).filter((name) => name.endsWith(ASIDE));
  return left.flatMap((name) => settleFolder(join(parent, name.slice(0, -ASIDE.length))));
}

const placeOf = (dir: string): string => (existsSync(dir) ? realpathSync(dir) : resolve(dir));

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

/** Errors: UserError if DIR.partial has names that an interrupted save would not leave, as these are a person's. */
function checkSide(side: string): void {
  const status = lstatSync(side, { throwIfNoEntry: false });
  if (status === undefined) return;
  const [foreign] = status.isDirectory() ? foreignEntries(side) : [""];
  if (foreign === undefined) return;
  const what = foreign === "" ? "is there" : `holds ${foreign}`;
  throw new UserError(
    `${side}: ${what}, which no save wrote, and the name is needed to save. Move it away, or choose another folder.`,
  );
}

/** The nearest folder above `path` that exists. */
function nearestAbove(path: string): string {
  const above = dirname(path);
  return existsSync(above) ? above : nearestAbove(above);
}

/** Why there can be no new folder at `dir`; undefined if there can. */
export function whyNotReplaced(dir: string, replaced: Replaced): string | undefined {
  const target = placeOf(dir);
  if (!existsSync(target)) return isLink(target) ? "it is a link that leads nowhere" : undefined;
  if (!statSync(target).isDirectory()) return "it is a file (expected a folder)";
  let names: string[];
  try {
    names = readdirSync(target);
  } catch (failure) {
    return `it cannot be read: ${reasonOf(failure)}`;
  }
  if (names.length === 0) return undefined;
  if (replaced === "nothing") return `it holds ${names[0]} (expected a new or empty folder)`;
  if (readManifest(target) === undefined && !(replaced === "ours or older" && isOlderResult(target))) {
    return `it holds ${names[0]}, and no manifest says that it was saved by this program`;
  }
  // Files on another disk cannot be renamed into the new folder.
  const { dev } = statSync(target);
  const mounted = names.find((name) => lstatSync(join(target, name)).dev !== dev);
  return mounted === undefined ? undefined : `another disk is mounted in it at ${mounted}`;
}

const isLink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

function withReassurance(failure: unknown, target: string): unknown {
  const tail = "Nothing that was saved before was touched.";
  if (failure instanceof UserError) {
    failure.message = `${failure.message} ${tail}`;
    return failure;
  }
  if (failure instanceof Error && "errno" in failure) {
    return new UserError(`${target}: cannot be saved: ${reasonOf(failure)}. ${tail}`, { cause: failure });
  }
  return failure;
}
