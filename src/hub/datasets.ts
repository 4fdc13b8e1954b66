// Data sets by name. For sources such as org/name[test], only the files asked for are downloaded, and the name is
// replaced by their folder. So readers of rows need no hub, and a resumed run needs no network.
import { existsSync } from "node:fs";
import { join } from "node:path";

import { isKnownName } from "../data/formats/registry.js";
import { CARD, chooseFiles } from "../data/sources/choose-files.js";
import { isGlob } from "../data/sources/glob.js";
import { parseSources } from "../data/sources/parse.js";
import type { Source } from "../data/sources/source.js";
import { sourcesAsText } from "../data/sources/as-text.js";
import { UserError } from "../errors.js";
import { readWholeFile } from "../read-file.js";
import { checkRoom, type HubOptions, link, makeFolders, resolveCached, writeRecord } from "./cached.js";
import { blobPath, download } from "./download.js";
import { parseName, type RepoName } from "./names.js";
import { fetchProgress, type FetchProgress, SILENT } from "./progress.js";
import type { RemoteFile, Repository } from "./repository.js";
import { type Connection, pageOf } from "./request.js";

/** The sources of a setting, with folders instead of names of sets. Errors: UserError, as resolveModel. */
export async function resolveSources(given: string, setting: string, options: HubOptions): Promise<string> {
  if (given === "") return given;
  const sources = parseSources(given, setting);
  const named = sources.map((source) => nameOf(source));
  if (named.every((repo) => repo === undefined)) return given;
  const resolved: Source[] = [];
  for (const [i, source] of sources.entries()) {
    const repo = named[i];
    resolved.push(repo === undefined ? source : { ...source, file: await resolveDataset(source, repo, options) });
  }
  return sourcesAsText(resolved);
}

/** A name on the hub; undefined for what exists here, for globs, and for names with the ending of a file of rows. */
const nameOf = ({ file }: Source): RepoName | undefined =>
  existsSync(file) || isGlob(file) || isKnownName(file) ? undefined : parseName(file);

function resolveDataset(source: Source, repo: RepoName, options: HubOptions): Promise<string> {
  const { subset = "", split = "" } = source;
  const record = `${repo.revision} ${subset}/${split}`;
  return resolveCached({ repo, kind: "dataset", record }, options, async (repository, place, connection) => {
    const fetched = await fetchSet(repository, source, place, connection, options);
    for (const revision of [repository.commit, repo.revision])
      writeRecord(place, `${revision} ${subset}/${split}`, { commit: repository.commit, files: fetched });
  });
}

async function fetchSet(
  { commit, files }: Repository,
  source: Source,
  place: string,
  connection: Connection,
  { out }: HubOptions,
): Promise<RemoteFile[]> {
  const { repo, endpoint, limits } = connection;
  const folder = join(place, commit);
  const blobs = join(place, "blobs");
  makeFolders(folder, blobs, join(place, "refs"));
  const fetchOne = async (file: RemoteFile, progress: FetchProgress = SILENT): Promise<void> => {
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(file.hash) || !isInside(file.path)) {
      throw new UserError(
        `${repo.given}: ${endpoint} states no checksum of ${file.path}, or no path in the set. Check HF_ENDPOINT.`,
      );
    }
    const url = `${pageOf(connection)}/resolve/${commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
    await download(file, { url, blobs, connection, progress });
    link(folder, file, blobs);
  };

  const card = files.find(({ path, bytes }) => path === CARD && bytes <= limits.sideFileBytes);
  if (card) await fetchOne(card);
  const text = card ? readWholeFile(blobPath(blobs, card)).toString("utf8") : "";
  const paths = new Set(
    await chooseFiles(
      files.map(({ path }) => path),
      source,
      text,
    ),
  );
  const chosen = files.filter(({ path }) => paths.has(path));
  checkRoom(chosen, blobs, repo);
  out.write(
    `fetching ${chosen.length} ${chosen.length === 1 ? "file" : "files"} of ${repo.id}, commit ${commit}, from ${endpoint}\n`,
  );
  const progress = fetchProgress({ out, files: chosen });
  try {
    for (const file of chosen) await fetchOne(file, progress);
  } finally {
    progress.close();
  }
  out.write(`fetched into ${folder}\n`);
  return card ? [card, ...chosen] : chosen;
}

const isInside = (path: string): boolean =>
  !path.startsWith("/") && path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
