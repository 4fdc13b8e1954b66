// The runs in the folders that a person names: a run's own folder, or a folder with runs up to two levels deep. Looks
// again each time, so runs that begin later are found. Links are not followed, except those that are named.
import { createHash } from "node:crypto";
import { readdirSync, realpathSync } from "node:fs";
import { basename, join, relative } from "node:path";

import { isRunFolder } from "../checkpoint/run/marker.js";
import { UserError } from "../errors.js";
import { formatNumberOf } from "../format.js";
import { statOf } from "../read-file.js";

export interface FoundRun {
  /** The same for the same folder, also in another process; safe in a URL. */
  id: string;
  /** The shortest name that differs from the others. */
  name: string;
  dir: string;
}

export interface Found {
  runs: FoundRun[];
  /** What is not shown, and why: one sentence each. */
  notes: string[];
}

const LEVELS = 2;

export function findRuns(folders: readonly string[]): Found {
  const notes: string[] = [];
  const found = new Map<string, FoundRun>();
  for (const folder of folders) {
    const before = found.size;
    for (const dir of runsIn(folder, LEVELS, notes)) {
      const path = realpathSync(dir);
      const id = createHash("sha256").update(path).digest("hex").slice(0, 16);
      if (!found.has(id)) found.set(id, { id, name: relative(folder, dir) || basename(path), dir });
    }
    if (found.size === before && statOf(folder)?.isDirectory())
      notes.push(
        `${folder}: no run is in this folder yet. revmoe train --output-dir ${join(folder, "NAME")} makes one.`,
      );
  }
  const runs = [...found.values()];
  const count = (name: string): number => runs.filter((run) => run.name === name).length;
  return { runs: runs.map((run) => (count(run.name) > 1 ? { ...run, name: run.dir } : run)), notes };
}

/** Errors: UserError for a path that does not exist or is not a folder. */
export function checkFolders(folders: readonly string[]): void {
  for (const folder of folders) {
    const status = statOf(folder);
    if (status?.isDirectory()) continue;
    const what = status === undefined ? "does not exist" : "is a file";
    throw new UserError(`${folder}: ${what} (expected the folder of a run, or one that holds runs).`);
  }
}

function runsIn(folder: string, levels: number, notes: string[]): string[] {
  try {
    if (isRunFolder(folder)) return [folder];
    if (levels === 0) return [];
    const entries = readdirSync(folder, { withFileTypes: true });
    const links = entries.filter((entry) => entry.isSymbolicLink()).length;
    if (links > 0)
      notes.push(`${folder}: ${formatNumberOf(links, "link")} in it not followed. Name what they lead to.`);
    const inner = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith("."));
    return inner
      .map(({ name }) => join(folder, name))
      .sort()
      .flatMap((each) => runsIn(each, levels - 1, notes));
  } catch (failure) {
    const { code = String(failure) } = failure as NodeJS.ErrnoException;
    notes.push(code === "ENOENT" ? `${folder}: there is no such folder yet.` : `${folder}: cannot be read (${code}).`);
    return [];
  }
}
