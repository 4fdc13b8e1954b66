// Where a folder really lies: by real path and by the file system's own identity, so that links, "..", the case of
// letters and mounts do not hide that one folder lies in another. Reads only.
import { existsSync, lstatSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { UserError } from "../../errors.js";
import { INDEX_FILE, SINGLE_FILE } from "../folder.js";
import { isRunFolder, isRunPart } from "../run/marker.js";

/**
 * The path without links, even if it does not exist yet. "a/.." is removed first, as everywhere that paths are joined.
 */
export function realPath(path: string, links = 40): string {
  const whole = resolve(path);
  if (existsSync(whole)) return realpathSync.native(whole);
  if (links > 0 && isLink(whole)) return realPath(resolve(dirname(whole), readlinkSync(whole)), links - 1);
  return dirname(whole) === whole ? whole : join(realPath(dirname(whole), links), basename(whole));
}

/** Whether `path` is `folder` or lies in it. */
export function liesIn(path: string, folder: string): boolean {
  const outer = realPath(folder);
  return upwardsFrom(path).some((each) => each === outer || isSameFolder(each, outer));
}

/** Whether a folder itself holds weights, and so is a model's folder. */
export const holdsWeights = (dir: string): boolean =>
  existsSync(join(dir, SINGLE_FILE)) || existsSync(join(dir, INDEX_FILE));

/** The run of which `path` is, or lies in, a part: checkpoint-N, final or working copy. */
function runAround(path: string): { run: string; part: string } | undefined {
  return upwardsFrom(path)
    .map((each) => ({ run: dirname(each), part: basename(each) }))
    .find(({ run, part }) => isRunPart(part) && isRunFolder(run));
}

/**
 * Refuses a place for a folder that is made from `model`: in the model's folder, around it, or in what a run writes and
 * replaces. `name` is the setting that gave the place. Errors: UserError.
 */
export function checkPlaceBesideModel(dir: string, model: string, name = "output_dir"): void {
  checkOutsideOfModel(dir, model, name);
  if (existsSync(model) && liesIn(model, dir)) {
    throw new UserError(`${name}: ${dir} holds the model, ${model}. Choose another folder.`);
  }
  if (existsSync(dir) && isRunFolder(dir))
    throw new UserError(`${name}: ${dir} is the folder of a run. Choose another folder.`);
}

/** The same for a run's own folder, which may contain the model that is trained. */
export function checkOutsideOfModel(dir: string, model: string, name = "output_dir"): void {
  if (existsSync(model) && statSync(model).isDirectory() && liesIn(dir, model)) {
    const where =
      realPath(dir) === realPath(model) ? "is the folder of the model" : `lies in the folder of the model, ${model}`;
    throw new UserError(`${name}: ${dir} ${where}, which nothing may change. Choose another folder.`);
  }
  const around = runAround(dir);
  if (around) {
    throw new UserError(
      `${name}: ${dir} is, or lies in, ${around.part} of the run in ${around.run}, which that run replaces. Choose another folder.`,
    );
  }
}

/** The real path, and all folders above it. */
function upwardsFrom(path: string): string[] {
  const found = [realPath(path)];
  for (let at = found[0]; dirname(at) !== at; at = dirname(at)) found.push(dirname(at));
  return found;
}

function isSameFolder(a: string, b: string): boolean {
  const [one, two] = [a, b].map((path) => ifThere(() => statSync(path, { bigint: true })));
  return one !== undefined && two !== undefined && one.dev === two.dev && one.ino === two.ino;
}

const isLink = (path: string): boolean => ifThere(() => lstatSync(path))?.isSymbolicLink() === true;

function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
