// A folder that exists completely or not at all: it is filled beside its place under the name DIR.partial, gets its
// manifest, is put on the disk, and renamed. A folder that was there before stands aside until then, and is back after any
// failure; what a person has in it goes over into the new one, see kept-files.ts. Limit: two processes must not save to
// one place at once.
import { existsSync, lstatSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

import { UserError } from "../../errors.js";
import { makeFolders, reasonOf, recordWrites, sync, syncFolder } from "./disk.js";
import { foreignEntries, isOlderResult, moveKeptFiles } from "./kept-files.js";
import { readManifest, writeManifest } from "./manifest.js";

/** What may be replaced: nothing but an empty folder; a folder with our manifest; also a run's from before there were manifests. */
export type Replaced = "nothing" | "ours" | "ours or older";

/** The old folder meanwhile; a name that nobody gives a folder of his own, because what is under it is removed. */
const ASIDE = ".revmoe-previous";

/**
 * Calls `fill` with an empty folder to write to, and puts the result in place of `dir`. Returns what is to be said of
 * files that a person had there. Throws a UserError, and leaves `dir` as it was, when something fails, or when `dir`
 * holds anything that may not be replaced.
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

/** Throws the UserError that `saveFolder` would throw before it begins. */
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
 * Ends what a kill left of an earlier save to `dir`: the old folder comes back, or what a person had in it goes over into
 * the new one. Returns what is to be said.
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

/** As `settleFolder`, of every folder in `parent`. */
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

/** A save that was cut off leaves known names only: anything else at this place is a person's. */
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

/** What there is of the folders above `path`. */
function nearestAbove(path: string): string {
  const above = dirname(path);
  return existsSync(above) ? above : nearestAbove(above);
}

/** What is in the way of a new folder at `dir`; undefined when nothing is. */
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
  // What is on another disk cannot go over into the new folder.
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
