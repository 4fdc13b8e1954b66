// What a person has in a folder of ours that is replaced: files that its manifest does not know, and files of ours that
// were changed since they were saved. They go over into the new folder, one rename each, so that a kill at any moment
// leaves each of them in one of the two folders; what is left of the old one then is ours alone, and is removed.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

import { sync } from "./disk.js";
import { isStateName, isWeightsName, STATE_FILE } from "../folder.js";
import { hashOrFailure } from "./hash-file.js";
import { type Manifest, MANIFEST_FILE, readManifest } from "./manifest.js";
import { COPIED_FILES } from "../model-files.js";

const OLDER_MARK = "revmoe.json";
/** By these a folder is known as one that we saved. */
export const MARKS = [MANIFEST_FILE, OLDER_MARK];

const isPartByName = (name: string): boolean => isWeightsName(name) || isStateName(name) || MARKS.includes(name);
const SAVED_NAMES = new Set(["config.json", "modeling_revmoe.py", ...COPIED_FILES]);

/** Whether a folder without a manifest is a checkpoint or a result of this program from before there were manifests. */
export const isOlderResult = (folder: string): boolean => existsSync(join(folder, OLDER_MARK));

/**
 * Moves what is a person's from `old` into `target`, which takes its place, and removes the rest of `old`. A name that
 * `target` has, or that would make the file part of the model, becomes NAME.kept. Returns a sentence for each file.
 */
export function moveKeptFiles(old: string, target: string): string[] {
  const notes: string[] = [];
  const manifest = readManifest(old);
  const isOurs = (name: string): boolean => {
    if (manifest === undefined) return isReplaced(old, name, target);
    return name === MANIFEST_FILE || isUnchanged(old, name, manifest);
  };
  let stuck = false;
  for (const entry of readdirSync(old, { withFileTypes: true })) {
    const { name } = entry;
    if (entry.isFile() && isOurs(name)) continue;
    const kept = freeName(target, name);
    const reason = manifest?.files.has(name) ? "was changed since it was saved" : "is not of our making";
    try {
      renameSync(join(old, name), join(target, kept));
      notes.push(`${join(target, name)} ${reason}; kept${kept === name ? "" : ` as ${kept}`}`);
    } catch (failure) {
      stuck = true;
      notes.push(`${join(target, name)} ${reason}; kept in ${old} (${(failure as Error).message})`);
    }
  }
  if (stuck) return notes;
  if (notes.length > 0) sync(target);
  // The manifest goes last, so that what a kill leaves is still known as ours.
  for (const name of readdirSync(old)) if (name !== MANIFEST_FILE) rmSync(join(old, name), { force: true });
  rmSync(old, { recursive: true, force: true });
  return notes;
}

/** What is not ours in a folder, by name alone: all that its manifest does not know; without one, what we never write. */
export function foreignEntries(folder: string): string[] {
  const manifest = readManifest(folder);
  const isOurs = (name: string): boolean =>
    name === MANIFEST_FILE || (manifest ? manifest.files.has(name) : SAVED_NAMES.has(name) || isPartByName(name));
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isFile() || !isOurs(entry.name))
    .map(({ name }) => name);
}

/** Whether a file is what we saved; in a checkpoint, weights and state are the run's own, and never a person's edit. */
function isUnchanged(folder: string, name: string, { files }: Manifest): boolean {
  const known = files.get(name);
  if (known === undefined) return false;
  if (files.has(STATE_FILE) && (isWeightsName(name) || isStateName(name))) return true;
  const path = join(folder, name);
  return statSync(path).size === known.bytes && hashOrFailure({ path, kind: "sha256" }) === known.sha256;
}

/** Without a manifest: whether the new folder stands for the file. */
function isReplaced(old: string, name: string, target: string): boolean {
  if (isPartByName(name)) return true;
  return existsSync(join(target, name)) && readFileSync(join(old, name)).equals(readFileSync(join(target, name)));
}

function freeName(target: string, name: string): string {
  if (!existsSync(join(target, name)) && !isPartByName(name)) return name;
  for (let number = 1; ; number++) {
    const kept = `${name}.kept${number > 1 ? `-${number}` : ""}`;
    if (!existsSync(join(target, kept))) return kept;
  }
}
