// From --model to a folder: an existing path as it is, or org/name[@revision] downloaded from a Hugging Face hub. The
// cache is that of cached.ts.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { readConfig } from "../checkpoint/folder.js";
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { readArchitecture } from "../families/registry.js";
import { blobPath, download } from "./download.js";
import { checkRoom, type HubOptions, link, makeFolders, readRecord, resolveCached, writeRecord } from "./cached.js";
import { cacheFolder, type Environment, parseName } from "./names.js";
import { fetchProgress, type FetchProgress, SILENT } from "./progress.js";
import { chooseFiles, type RemoteFile, type Repository, shardsOf } from "./repository.js";
import type { Connection } from "./request.js";

export interface ResolveOptions extends HubOptions {
  /** Checks config.json before hours of download; by default it refuses a family that cannot be trained. */
  check?: (config: Record<string, unknown>, path: string) => void;
}

/**
 * The folder of a model. A branch or tag is looked up on the hub each time, and taken from the cache if the hub cannot
 * be reached; a commit that is complete in the cache needs no request. The cache owns the folder: do not change it.
 * Errors: UserError for everything that prevents it; the next call uses what has arrived.
 */
export async function resolveModel(model: string, options: ResolveOptions): Promise<string> {
  if (existsSync(model)) return model;
  const repo = parseName(model);
  if (!repo)
    throw new UserError(
      `${model}: no such folder. Check the path, or name a model on the hub as org/name or org/name@revision.`,
    );
  return resolveCached({ repo, kind: "model", record: repo.revision }, options, (repository, place, connection) =>
    fetchRepository(repository, place, connection, options),
  );
}

/**
 * The folder of a name that is complete in the cache, without asking the hub; undefined if it is not there, or is not a
 * name.
 */
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
    link(folder, file, blobs);
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
