// Compares the files of a folder with what was recorded when they were written: the manifest of a folder that we saved,
// or the names of blobs in a hub's cache (ours or Hugging Face's), which are checksums. It compares lengths first, as
// this costs nothing, then every byte.
import { existsSync, lstatSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { UserError } from "../../errors.js";
import { isStateName, isWeightsName } from "../folder.js";
import { type Checksum, hashFiles } from "./hash-file.js";
import { MANIFEST_FILE, readManifest } from "./manifest.js";

interface Expected {
  name: string;
  /** Undefined in a hub's cache, where it is not known. */
  bytes?: number;
  kind: Checksum;
  hash: string;
  /** Where the bytes really are, for advice on what to do. */
  real: string;
}

export interface FileProblem {
  file: string;
  /** Completes the sentence "FILE ". */
  problem: string;
  /** Its place in a hub's cache. */
  blob?: string;
}

export interface Checked {
  /** Where the checksums come from; null if there are none. */
  by: "manifest" | "hub" | null;
  files: number;
  bytes: number;
  problems: FileProblem[];
}

/** Compares the files of `folder` whose names are `wanted` with their records. */
export function checkFiles(folder: string, wanted: (name: string) => boolean = () => true): Checked {
  const manifest = readManifest(folder);
  if (manifest === undefined && existsSync(join(folder, MANIFEST_FILE))) {
    return {
      by: "manifest",
      files: 0,
      bytes: 0,
      problems: [{ file: MANIFEST_FILE, problem: "is damaged, or of a newer version" }],
    };
  }
  const expected = (manifest ? recordedIn(folder, manifest.files) : blobsIn(folder)).filter(({ name }) => wanted(name));
  const problems: FileProblem[] = [];
  const whole = expected.filter((each) => {
    const problem = lengthProblem(folder, each);
    if (problem !== undefined) problems.push({ file: each.name, problem, blob: manifest ? undefined : each.real });
    return problem === undefined;
  });
  const hashes = hashFiles(whole.map(({ name, kind }) => ({ path: join(folder, name), kind })));
  for (const [i, { name, hash, kind, real }] of whole.entries()) {
    const found = hashes[i];
    if (found === hash) continue;
    const problem =
      typeof found === "string"
        ? `has changed: its ${kind === "git" ? "SHA-1" : "SHA-256"} is ${short(found)}, ${short(hash)} when it was saved`
        : `cannot be read: ${found.failure}`;
    problems.push({ file: name, problem, blob: manifest ? undefined : real });
  }
  const bytes = whole.reduce((sum, { name }) => sum + statSync(join(folder, name)).size, 0);
  return { by: manifest ? "manifest" : expected.length > 0 ? "hub" : null, files: expected.length, bytes, problems };
}

/** Errors: UserError when a file of weights in `folder` differs from its record. A folder without records passes. */
export function checkWeightFiles(folder: string): void {
  if (!isFolder(folder)) return;
  const [damaged] = checkFiles(folder, isWeightsName).problems;
  if (damaged === undefined) return;
  const { file, problem, blob } = damaged;
  throw new UserError(
    `${join(folder, file)} ${problem}. ` +
      (blob
        ? `Remove ${blob} and start again: it is fetched again.`
        : `Use another checkpoint; if the file was changed on purpose, remove ${join(folder, MANIFEST_FILE)}.`),
  );
}

/** Files of a checkpoint that must be unchanged for a run to go on from it. */
const NEEDED_TO_RESUME = (name: string): boolean =>
  isWeightsName(name) || isStateName(name) || name === "config.json" || name === "revmoe.json";

/** Damage in the files that a run needs to go on from a checkpoint; `by` is null for one without a manifest. */
export const checkCheckpoint = (folder: string): Checked => checkFiles(folder, NEEDED_TO_RESUME);

function recordedIn(folder: string, files: Map<string, { bytes: number; sha256: string }>): Expected[] {
  return [...files].map(([name, { bytes, sha256 }]) => ({
    name,
    bytes,
    kind: "sha256",
    hash: sha256,
    real: join(folder, name),
  }));
}

/** Links into a folder blobs/, whose names are checksums. */
function blobsIn(folder: string): Expected[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (!lstatSync(path).isSymbolicLink()) return [];
    const real = resolve(folder, readlinkSync(path));
    const hash = basename(real);
    if (basename(dirname(real)) !== "blobs" || !/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hash)) return [];
    return [{ name, kind: hash.length === 64 ? ("sha256" as const) : ("git" as const), hash, real }];
  });
}

function lengthProblem(folder: string, { name, bytes }: Expected): string | undefined {
  const stat = statSync(join(folder, name), { throwIfNoEntry: false });
  if (stat === undefined) return "is missing";
  if (!stat.isFile()) return "is no file";
  return bytes === undefined || stat.size === bytes ? undefined : `has ${stat.size} bytes, ${bytes} when it was saved`;
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
const short = (hash: string): string => `${hash.slice(0, 12)}...`;
