// A person's files in a folder of ours that is replaced: files that its manifest does not list, and files of ours that
// were changed since they were saved. They are moved into the new folder with one rename each, so after a kill each is
// in one of the two folders. All that remains in the old folder is ours, and is removed.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

import { sync } from "./disk.js";
import { isStateName, isWeightsName, STATE_FILE } from "../folder.js";
import { hashOrFailure } from "./hash-file.js";
import { type Manifest, MANIFEST_FILE, readManifest } from "./manifest.js";
import { COPIED_FILES } from "../model-files.js";

const OLDER_MARK = "revmoe.json";
/** Files by which a folder is recognized as one that we saved. */
export const MARKS = [MANIFEST_FILE, OLDER_MARK];

const isPartByName = (name: string): boolean => isWeightsName(name) || isStateName(name) || MARKS.includes(name);
const SAVED_NAMES = new Set(["config.json", "modeling_revmoe.py", ...COPIED_FILES]);

/** Whether a folder without a manifest is a checkpoint or result that this program saved before manifests existed. */
export const isOlderResult = (folder: string): boolean => existsSync(join(folder, OLDER_MARK));

/**
 * Moves a person's files from `old` into `target`, which replaces it, and removes the rest of `old`. A file whose name
 * `target` has, or whose name would make it part of the model, becomes NAME.kept. Returns a sentence for each file.
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
  // The manifest goes last, so that after a kill the rest is still known as ours.
  for (const name of readdirSync(old)) if (name !== MANIFEST_FILE) rmSync(join(old, name), { force: true });
  rmSync(old, { recursive: true, force: true });
  return notes;
}

/**
 * Names in a folder that are not ours: all that its manifest does not list; without a manifest, names that we never
 * write.
 */
export function foreignEntries(folder: string): string[] {
  const manifest = readManifest(folder);
  const isOurs = (name: string): boolean =>
    name === MANIFEST_FILE || (manifest ? manifest.files.has(name) : SAVED_NAMES.has(name) || isPartByName(name));
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isFile() || !isOurs(entry.name))
    .map(({ name }) => name);
}

/** Whether a file is as we saved it. In a checkpoint, weights and state belong to the run and count as unchanged. */
function isUnchanged(folder: string, name: string, { files }: Manifest): boolean {
  const known = files.get(name);
  if (known === undefined) return false;
  if (files.has(STATE_FILE) && (isWeightsName(name) || isStateName(name))) return true;
  const path = join(folder, name);
  return statSync(path).size === known.bytes && hashOrFailure({ path, kind: "sha256" }) === known.sha256;
}

/** For a folder without a manifest: whether the new folder replaces the file. */
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
