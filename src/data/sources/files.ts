// The files that a source's name stands for: the file itself, those that a glob fits, or those of a folder. Sorted by name.
import { UserError } from "../../errors.js";
import { statOf } from "../../read-file.js";
import type { Source } from "./source.js";

/** Errors: UserError where there is none. */
export function filesOf({ file }: Source): string[] {
  const stats = statOf(file);
  if (stats === undefined)
    throw new UserError(`${file}: there is no such file. Check the path; it is taken from the current folder.`);
  if (stats.isDirectory()) throw new UserError(`${file}: this is a folder (expected a file). Name one file in it.`);
  return [file];
}
