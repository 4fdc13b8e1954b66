// What a repository on a hub holds at one commit, and which of its files a model needs: configuration, tokenizer, and
// weights as safetensors. Limits: files at the top of the repository, and named chat templates in their folder; pickled
// and GGUF weights are refused.
import { INDEX_FILE, SINGLE_FILE } from "../checkpoint/folder.js";
import { COPIED_FILES } from "../checkpoint/model-files.js";
import { TEMPLATE_FOLDER } from "../checkpoint/named-templates.js";
import { excerpt, UserError } from "../errors.js";
import { isCommit } from "./names.js";
import { pageGuard } from "./limits.js";
import { type Connection, fetchFor } from "./request.js";

export interface RemoteFile {
  path: string;
  bytes: number;
  /** In hexadecimal: SHA-256 of a large file; SHA-1 of the git blob of any other. */
  hash: string;
}

export interface Repository {
  commit: string;
  files: RemoteFile[];
}

/** Asks the hub. Errors: HubUnreachable; UserError for a refusal, or for an answer that is not a hub's. */
export async function readRepository(connection: Connection): Promise<Repository> {
  const { repo, kind, endpoint } = connection;
  const access = { hubUrl: endpoint, fetch: fetchFor(connection, pageGuard(repo.given, endpoint, connection.limits)) };
  try {
    // Loading it takes half of a command's start-up time, and few commands need it.
    const { datasetInfo, listFiles, modelInfo } = await import("@huggingface/hub");
    const asked = { name: repo.id, revision: repo.revision, additionalFields: ["sha" as const], ...access };
    const { sha: commit } = kind === "dataset" ? await datasetInfo(asked) : await modelInfo(asked);
    if (!isCommit(commit)) throw new Error(`commit ${excerpt(commit)}`);
    const files: RemoteFile[] = [];
    const folders = [""];
    for (const folder of folders) {
      const where = { repo: { type: kind, name: repo.id }, recursive: kind === "dataset", revision: commit, ...access };
      for await (const { type, path, size, oid, lfs } of listFiles(folder ? { ...where, path: folder } : where)) {
        if (files.length >= connection.limits.files) throw new Error(`more than ${connection.limits.files} files`);
        if (type === "file") files.push(checkedFile({ path, bytes: lfs?.size ?? size, hash: lfs?.oid ?? oid ?? "" }));
        else if (kind === "model" && folder === "" && path === TEMPLATE_FOLDER) folders.push(path);
      }
    }
    return { commit, files };
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    throw new UserError(
      `${repo.given}: ${endpoint} does not answer as a hub does: ${(failure as Error).message.slice(0, 200)}. Check HF_ENDPOINT.`,
    );
  }
}

/** Checks a file from the library, which passes on the hub's answer unchecked. */
function checkedFile(file: RemoteFile): RemoteFile {
  const { path, bytes, hash } = file as { [key in keyof RemoteFile]: unknown };
  if (typeof path === "string" && Number.isInteger(bytes) && (bytes as number) >= 0 && typeof hash === "string")
    return file;
  throw new Error(`it lists a file ${excerpt({ path, bytes, hash })}`);
}

const SIDE_FILES = new Set(["config.json", "revmoe.json", ...COPIED_FILES]);

export interface Needed {
  config: RemoteFile;
  /** The index of sharded weights, which names the shards. */
  index: RemoteFile | undefined;
  /** All weights in one file. */
  single: RemoteFile | undefined;
  /** Tokenizer and similar files. */
  others: RemoteFile[];
}

/** Errors: UserError if there is no config.json, or no safetensors. */
export function chooseFiles({ files }: Repository, given: string): Needed {
  const named = (name: string): RemoteFile | undefined => files.find(({ path }) => path === name);
  const config = named("config.json");
  if (!config)
    throw new UserError(
      `${given}: the repository has no config.json (expected a checkpoint of transformers). Choose another model.`,
    );
  const single = named(SINGLE_FILE);
  const index = single ? undefined : named(INDEX_FILE);
  if (!single && !index) {
    const kinds = [".bin", ".gguf", ".pt", ".pth", ".h5", ".safetensors"].filter((kind) =>
      files.some(({ path }) => path.endsWith(kind)),
    );
    throw new UserError(
      `${given}: the repository has no ${SINGLE_FILE} and no ${INDEX_FILE}` +
        `${kinds.length > 0 ? `, only files of kind ${kinds.join(", ")}` : ""}. ` +
        "Choose a repository with safetensors, or load it in transformers and call save_pretrained.",
    );
  }
  return { config, single, index, others: files.filter((file) => isSideFile(file) && file !== config) };
}

const isSideFile = ({ path }: RemoteFile): boolean =>
  SIDE_FILES.has(path) || /^chat_template[\w.-]*$/.test(path) || NAMED_TEMPLATE.test(path);
const NAMED_TEMPLATE = new RegExp(`^${TEMPLATE_FOLDER}/\\w[\\w.-]*\\.jinja$`);

const SHARD = /^\w[\w.+-]*$/;

/** The files that the text of an index names. Errors: UserError if it is not an index, or if one of them is missing. */
export function shardsOf(indexText: string, { files }: Repository, given: string): RemoteFile[] {
  let names: Set<unknown>;
  try {
    names = new Set(Object.values((JSON.parse(indexText) as { weight_map: Record<string, unknown> }).weight_map));
  } catch {
    throw new UserError(`${given}: its ${INDEX_FILE} has no weight_map of file names. Choose another revision.`);
  }
  const known = new Map<unknown, RemoteFile>(files.map((file) => [file.path, file]));
  return [...names].map((name) => {
    const found = known.get(name);
    if (found && SHARD.test(found.path)) return found;
    throw new UserError(
      `${given}: its ${INDEX_FILE} names ${excerpt(name)}, which the repository does not have. Choose another revision.`,
    );
  });
}
