// The cache of downloads. models/org/name/ or datasets/org/name/ holds blobs/ (files by checksum, whole or .part), a
// folder of links for each commit, and refs/ with a record for each revision (and for each part of a data set). A
// record is written last: what has a record is complete and needs no network.
import { mkdirSync, readFileSync, renameSync, statfsSync, statSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";

import { writeFileDurably } from "../checkpoint/files/disk.js";
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { canRedraw, type Output } from "../metrics/output.js";
import { missingBytes } from "./download.js";
import { LIMITS, type Limits } from "./limits.js";
import { cacheFolder, type Environment, hubOf, isCommit, type RepoName } from "./names.js";
import { CLEAR_LINE } from "./progress.js";
import { readRepository, type RemoteFile, type Repository } from "./repository.js";
import { type Connection, HubUnreachable } from "./request.js";

export interface HubOptions {
  /** Gets progress, and what was chosen. */
  out: Output;
  /** Whether to take a revision that is complete in the cache without asking the hub for a newer commit. */
  preferCached?: boolean;
  env?: Environment;
  /** Number of consecutive failures before giving up, and the wait after the first. */
  attempts?: number;
  waitMs?: number;
  limits?: Partial<Limits>;
}

export interface Wanted {
  repo: RepoName;
  kind: Connection["kind"];
  /** Name of the record that marks it as complete. */
  record: string;
}

/**
 * The folder of a revision's present commit, or of its last known one if the hub cannot be reached. `fetch` downloads
 * what is new; then the record is written. Errors: UserError.
 */
export async function resolveCached(
  { repo, kind, record }: Wanted,
  { out, preferCached = false, env = process.env, attempts = 5, waitMs = 500, ...options }: HubOptions,
  fetch: (repository: Repository, place: string, connection: Connection) => Promise<void>,
): Promise<string> {
  const place = join(cacheFolder(env), `${kind}s`, repo.id);
  const known = readRecord(place, record);
  if (known && (preferCached || isCommit(repo.revision))) return join(place, known.commit);
  const limits = { ...LIMITS, ...options.limits };
  const say = (line: string): void => void out.write(`${canRedraw(out, env) ? CLEAR_LINE : ""}${line}\n`);
  const connection: Connection = { repo, kind, ...hubOf(env), attempts, waitMs, limits, say };
  let repository: Repository;
  try {
    // With a complete copy there is no need to wait long for a hub that does not answer.
    const hurried = {
      ...connection,
      attempts: 1,
      limits: { ...limits, silenceMs: Math.min(limits.silenceMs, HURRY_MS) },
    };
    repository = await readRepository(known ? hurried : connection);
  } catch (failure) {
    if (!known || !(failure instanceof HubUnreachable)) throw failure;
    out.write(
      `note: ${connection.endpoint} cannot be reached; ${repo.given} is commit ${known.commit} from the cache\n`,
    );
    return join(place, known.commit);
  }
  if (known?.commit !== repository.commit) await fetch(repository, place, connection);
  return join(place, repository.commit);
}

const HURRY_MS = 10_000;

export function makeFolders(...folders: string[]): void {
  for (const folder of folders) {
    try {
      mkdirSync(folder, { recursive: true });
    } catch (failure) {
      throw new UserError(
        `${folder}: cannot be made: ${(failure as Error).message}. Set REVMOE_CACHE to a folder that can be written.`,
      );
    }
  }
}

export function checkRoom(files: RemoteFile[], blobs: string, { given }: RepoName): void {
  const needed = files.reduce((sum, file) => sum + missingBytes(blobs, file), 0);
  const { bavail, bsize } = statfsSync(blobs);
  if (needed <= bavail * bsize) return;
  throw new UserError(
    `${given}: takes ${formatBytes(needed)} more, but the disk of ${blobs} has ${formatBytes(bavail * bsize)} free. ` +
      "Free some space, or set REVMOE_CACHE to a folder on another disk.",
  );
}

/** Makes the file in a commit's folder, as a link to its bytes. */
export function link(folder: string, { path, hash }: RemoteFile, blobs: string): void {
  const place = join(folder, path);
  makeFolders(dirname(place));
  try {
    symlinkSync(join(relative(dirname(place), blobs), hash), place);
  } catch (failure) {
    // An earlier call made the same link: a file of a commit never changes.
    if ((failure as NodeJS.ErrnoException).code !== "EEXIST") throw failure;
  }
}

const recordPath = (place: string, record: string): string => join(place, "refs", `${encodeURIComponent(record)}.json`);

/** The record of a revision, if all its files are there in full length; else undefined. */
export function readRecord(place: string, name: string): Repository | undefined {
  try {
    const record = JSON.parse(readFileSync(recordPath(place, name), "utf8")) as Repository;
    if (!isCommit(record.commit)) return undefined;
    const isWhole = ({ path, bytes }: RemoteFile): boolean => statSync(join(place, record.commit, path)).size === bytes;
    return record.files.every(isWhole) ? record : undefined;
  } catch {
    return undefined; // none yet, or files were removed: both are fetched
  }
}

export function writeRecord(place: string, name: string, record: Repository): void {
  const path = recordPath(place, name);
  const side = `${path}.${process.pid}`;
  writeFileDurably(side, JSON.stringify(record, null, 2));
  renameSync(side, path);
}
