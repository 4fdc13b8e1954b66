// Names with wildcards: * and ? within one folder's name, ** across folders, [abc] for one of these letters. Like a
// shell, it follows links and leaves out hidden files. Limit: no {a,b}, which the shell expands itself.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.js";
import { reading, statOf } from "../../read-file.js";
import { FORMAT_LIMITS } from "../formats/limits.js";

export const isGlob = (name: string): boolean => /[*?[]/.test(name);

/** Whether a path, relative to some folder, matches a pattern. */
export function fitsGlob(pattern: string, path: string): boolean {
  const source = pattern
    .split(/(\*\*\/|\*\*|\*|\?|\[[^\]/]+\])/)
    .map(
      (part) => WILD[part] ?? (part.startsWith("[") && part.endsWith("]") ? part.replace(/^\[!/, "[^") : literal(part)),
    )
    .join("");
  return new RegExp(`^${source}$`, "s").test(path);
}

const WILD: Readonly<Record<string, string>> = {
  "**/": "(?:[^/]+/)*",
  "**": ".*",
  "*": "[^/]*",
  "?": "[^/]",
};

const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** The folder in which a glob is searched; any other name unchanged. */
export const placeOf = (name: string): string =>
  statOf(name) !== undefined || !isGlob(name) ? name : parted(name).root;

/** The files that match, sorted. Errors: UserError if there are too many to search. */
export function globFiles(pattern: string): string[] {
  const { root, wild } = parted(pattern);
  if (statOf(root)?.isDirectory() !== true) return [];
  const depth = wild.includes("**") ? Number.POSITIVE_INFINITY : wild.split("/").length;
  return filesIn(root, depth)
    .filter((path) => fitsGlob(wild, path))
    .map((path) => join(root, path));
}

/** The folders before the first wildcard, and the rest. */
function parted(pattern: string): { root: string; wild: string } {
  const parts = pattern.split("/");
  const count = parts.findIndex(isGlob);
  const root = parts.slice(0, count).join("/") || (pattern.startsWith("/") ? "/" : ".");
  return { root, wild: parts.slice(count).join("/") };
}

/** Files in a folder and its folders, by their paths relative to it, sorted. */
export function filesIn(root: string, depth = Number.POSITIVE_INFINITY): string[] {
  const found: string[] = [];
  const folders: [path: string, depth: number][] = [["", 1]];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    const [folder, level] = next;
    for (const entry of reading(join(root, folder), () => readdirSync(join(root, folder)))) {
      if (entry.startsWith(".")) continue;
      const path = folder === "" ? entry : `${folder}/${entry}`;
      const stats = statOf(join(root, path));
      if (stats?.isDirectory() && level < depth) folders.push([path, level + 1]);
      else if (stats?.isFile()) found.push(path);
      if (found.length + folders.length > FORMAT_LIMITS.files) {
        throw new UserError(
          `${root}: more than ${FORMAT_LIMITS.files} files and folders (expected a folder of data). Name a folder in it.`,
        );
      }
    }
  }
  return found.sort();
}
