// From what --model says to a folder: an existing path as it is, or org/name[@revision] fetched from a Hugging Face hub.
// In the cache, models/org/name/ holds blobs/ (files by checksum, whole or .part), a folder of links for each commit, and
// refs/ with one record for each revision, written last: a revision with a record is complete and needs no network.
import { existsSync, mkdirSync, readFileSync, renameSync, statfsSync, statSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";

import { writeFileDurably } from "../checkpoint/files/disk.js";
import { readConfig } from "../checkpoint/folder.js";
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { canRedraw, type Output } from "../metrics/output.js";
import { readArchitecture } from "../families/registry.js";
import { blobPath, download, missingBytes } from "./download.js";
import { cacheFolder, type Environment, hubOf, isCommit, parseName, type RepoName } from "./names.js";
import { LIMITS, type Limits } from "./limits.js";
import { CLEAR_LINE, fetchProgress, type FetchProgress, SILENT } from "./progress.js";
import { chooseFiles, readRepository, type RemoteFile, type Repository, shardsOf } from "./repository.js";
import { type Connection, HubUnreachable } from "./request.js";

export interface ResolveOptions {
  /** Where progress and what was chosen go. */
  out: Output;
  /** Takes a revision that is complete in the cache without asking whether the hub has a newer commit. */
  preferCached?: boolean;
  /** Refuses a config.json before hours of download; by default a family that cannot be trained. */
  check?: (config: Record<string, unknown>, path: string) => void;
  env?: Environment;
  /** Failures in a row before giving up, and the wait after the first. */
  attempts?: number;
  waitMs?: number;
  limits?: Partial<Limits>;
}

/**
 * The folder of a model. A branch or tag is looked up on the hub each time, and taken from the cache when the hub cannot
 * be reached; a commit that is complete in the cache needs no request. The cache owns the folder: it must not be changed.
 * Errors: UserError in one sentence for whatever prevents it; what has arrived is used by the next call.
 */
export async function resolveModel(model: string, options: ResolveOptions): Promise<string> {
  if (existsSync(model)) return model;
  const repo = parseName(model);
  if (!repo)
    throw new UserError(
      `${model}: no such folder. Check the path, or name a model on the hub as org/name or org/name@revision.`,
    );
  const { out, preferCached = false, env = process.env, attempts = 5, waitMs = 500 } = options;
  const place = join(cacheFolder(env), "models", repo.id);
  const known = readRecord(place, repo.revision);
  if (known && (preferCached || isCommit(repo.revision))) return join(place, known.commit);
  const limits = { ...LIMITS, ...options.limits };
  const say = (line: string): void => void out.write(`${canRedraw(out, env) ? CLEAR_LINE : ""}${line}\n`);
  const connection: Connection = { repo, ...hubOf(env), attempts, waitMs, limits, say };
  let repository: Repository;
  try {
    // Who has a complete copy need not wait for a hub that is away.
    const hurried = {
      ...connection,
      attempts: 1,
      limits: { ...limits, silenceMs: Math.min(limits.silenceMs, HURRY_MS) },
    };
    repository = await readRepository(known ? hurried : connection);
  } catch (failure) {
    if (!known || !(failure instanceof HubUnreachable)) throw failure;
    out.write(`note: ${connection.endpoint} cannot be reached; ${model} is commit ${known.commit} from the cache\n`);
    return join(place, known.commit);
  }
  if (known?.commit !== repository.commit) await fetchRepository(repository, place, connection, options);
  return join(place, repository.commit);
}

const HURRY_MS = 10_000;

/** The folder of a name that is complete in the cache, without asking the hub; undefined when it is not there, or no name. */
export function cachedFolder(model: string, env: Environment = process.env): string | undefined {
  const repo = parseName(model);
  const place = repo && join(cacheFolder(env), "models", repo.id);
  const known = repo && place && readRecord(place, repo.revision);
  return known && place && join(place, known.commit);
}

async function fetchRepository(
  repository: Repository,
  place: string,
  connection: Connection,
  { out, check = (config, path) => readArchitecture(config, path) }: ResolveOptions,
): Promise<void> {
  const { repo, endpoint } = connection;
  const folder = join(place, repository.commit);
  const blobs = join(place, "blobs");
  makeFolders(folder, blobs, join(place, "refs"));
  const fetchOne = async (file: RemoteFile, progress: FetchProgress = SILENT): Promise<void> => {
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(file.hash)) {
      throw new UserError(`${repo.given}: ${endpoint} states no checksum of ${file.path}. Check HF_ENDPOINT.`);
    }
    if (!file.path.endsWith(".safetensors") && file.bytes > connection.limits.sideFileBytes) {
      throw new UserError(
        `${repo.given}: ${file.path} has ${formatBytes(file.bytes)} (expected at most ${formatBytes(connection.limits.sideFileBytes)}). Choose another model.`,
      );
    }
    const url = `${endpoint}/${repo.id}/resolve/${repository.commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
    await download(file, { url, blobs, connection, progress });
    const path = join(folder, file.path);
    makeFolders(dirname(path));
    link(path, join(relative(dirname(path), blobs), file.hash));
  };

  const { config, index, single, others } = chooseFiles(repository, repo.given);
  await fetchOne(config);
  const { config: source, path } = readConfig(folder);
  check(source, path);
  if (index) await fetchOne(index);
  const shards = index ? shardsOf(readFileSync(blobPath(blobs, index), "utf8"), repository, repo.given) : [];
  const rest = [...others, ...(single ? [single] : shards)];
  checkRoom(rest, blobs, repo);

  out.write(`fetching ${repo.id}, commit ${repository.commit}, from ${endpoint}\n`);
  const progress = fetchProgress({ out, files: rest });
  try {
    for (const file of rest) await fetchOne(file, progress);
  } finally {
    progress.close();
  }
  const record: Repository = { commit: repository.commit, files: [config, ...(index ? [index] : []), ...rest] };
  for (const revision of [repository.commit, repo.revision]) writeRecord(place, revision, record);
  out.write(`fetched into ${folder}\n`);
}

function makeFolders(...folders: string[]): void {
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

function checkRoom(files: RemoteFile[], blobs: string, { given }: RepoName): void {
  const needed = files.reduce((sum, file) => sum + missingBytes(blobs, file), 0);
  const { bavail, bsize } = statfsSync(blobs);
  if (needed <= bavail * bsize) return;
  throw new UserError(
    `${given}: takes ${formatBytes(needed)} more, but the disk of ${blobs} has ${formatBytes(bavail * bsize)} free. ` +
      "Free some space, or set REVMOE_CACHE to a folder on another disk.",
  );
}

function link(path: string, target: string): void {
  try {
    symlinkSync(target, path);
  } catch (failure) {
    // An earlier call made the same link: a file of a commit never changes.
    if ((failure as NodeJS.ErrnoException).code !== "EEXIST") throw failure;
  }
}

const recordPath = (place: string, revision: string): string =>
  join(place, "refs", `${encodeURIComponent(revision)}.json`);

/** The record of a revision whose files are all there in their full length. */
function readRecord(place: string, revision: string): Repository | undefined {
  try {
    const record = JSON.parse(readFileSync(recordPath(place, revision), "utf8")) as Repository;
    if (!isCommit(record.commit)) return undefined;
    const isWhole = ({ path, bytes }: RemoteFile): boolean => statSync(join(place, record.commit, path)).size === bytes;
    return record.files.every(isWhole) ? record : undefined;
  } catch {
    return undefined; // none yet, or files were removed: both are fetched
  }
}

function writeRecord(place: string, revision: string, record: Repository): void {
  const path = recordPath(place, revision);
  const side = `${path}.${process.pid}`;
  writeFileDurably(side, JSON.stringify(record, null, 2));
  renameSync(side, path);
}
