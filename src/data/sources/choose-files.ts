// Which files of a folder, or of a set on a hub, hold the rows that are asked for: by the card of the set (the head of
// its README.md), else by names such as train.jsonl, test-00000.parquet or validation/a.csv. Looks only at names.
import type * as Yaml from "yaml";
import { UserError } from "../../errors.js";
import { isKnownName } from "../formats/registry.js";
import { keyList } from "../rows.js";
import { fitsGlob } from "./glob.js";
import type { Source } from "./source.js";

export const CARD = "README.md";

/** Words for a split in file names; the first is the split's own name. */
const SPLITS = [
  ["train", "training"],
  ["validation", "valid", "val", "dev"],
  ["test", "testing", "eval", "evaluation"],
];

/** Files that sets keep beside their rows. */
const BESIDE =
  /(^|\/)(dataset_infos?|dataset_dict|state|config|[\w-]*_config|README|LICENSE|CHANGELOG|requirements)\.(json|md|txt)$/i;

export const DEFAULT_SPLIT = "train";

/** The paths, relative to the set, that belong to the split. Errors: UserError that lists what there is. */
export async function chooseFiles(paths: readonly string[], source: Source, card = ""): Promise<string[]> {
  const data = paths.filter((path) => isKnownName(path) && !BESIDE.test(path));
  if (data.length === 0)
    throw new UserError(`${source.file}: no file of rows in it (found ${keyList(paths) || "nothing"}). Name another.`);
  const configs = configsOf(await headOfCard(card));
  return configs.length > 0 ? byCard(data, source, configs) : byName(data, source);
}

interface Config {
  name: string;
  isDefault: boolean;
  /** Patterns of files, by split. */
  splits: Map<string, string[]>;
}

function byCard(data: string[], source: Source, configs: Config[]): string[] {
  const { file, subset, split } = source;
  const names = configs.map(({ name }) => name);
  const config =
    subset === undefined
      ? (configs.find(({ isDefault, name }) => isDefault || name === "default") ??
        (configs.length === 1 ? configs[0] : undefined))
      : configs.find(({ name }) => name === subset);
  if (!config) {
    throw new UserError(
      subset === undefined
        ? `${file}: has the subsets ${keyList(names)} (expected one). Name it, as in ${file}[${names[0]}/${DEFAULT_SPLIT}].`
        : `${file}: has no subset "${subset}" (expected ${keyList(names)}).`,
    );
  }
  const splits = [...config.splits.keys()];
  const wanted = split ?? (splits.length === 1 ? splits[0] : DEFAULT_SPLIT);
  const patterns = config.splits.get(wanted);
  if (!patterns) throw noSplit(file, wanted, splits);
  const chosen = data.filter((path) => patterns.some((pattern) => fitsGlob(pattern, path)));
  if (chosen.length > 0) return chosen;
  throw new UserError(
    `${file}: no file fits ${keyList(patterns)}, which its card gives for ${wanted}. Name files by a glob.`,
  );
}

function byName(data: string[], { file, subset, split }: Source): string[] {
  const within = subset === undefined ? data : data.filter((path) => path.startsWith(`${subset}/`));
  if (within.length === 0) {
    const folders = [...new Set(data.filter((path) => path.includes("/")).map((path) => path.split("/")[0]))];
    throw new UserError(`${file}: has no subset "${subset}" (found ${keyList(folders) || "no folders"}).`);
  }
  const wanted = split ?? DEFAULT_SPLIT;
  const chosen = within.filter((path) => isOfSplit(path, wanted));
  if (chosen.length > 0) return chosen;
  const others = SPLITS.map(([name]) => name).filter((name) => within.some((path) => isOfSplit(path, name)));
  if (others.length === 0 && split === undefined) return within;
  throw noSplit(file, wanted, others);
}

/** By a word in its name or folders; for a split with an unusual name, by the beginning of the file's name. */
function isOfSplit(path: string, split: string): boolean {
  const words = SPLITS.find(([name]) => name === split) ?? [split];
  const parts = path.toLowerCase().split(/[/._\-\s\d]+/);
  return (
    words.some((word) => parts.includes(word)) ||
    path
      .split("/")
      .some((part) => part === split || (part.startsWith(split) && /^[-._]/.test(part.slice(split.length))))
  );
}

const noSplit = (file: string, split: string, found: string[]): UserError =>
  new UserError(
    `${file}: has no split "${split}" (found ${keyList(found) || "none"}). Name one, as in ${file}[${found[0] ?? "test"}], or files by a glob.`,
  );

/** The YAML between the first two lines of dashes; undefined without it. */
async function headOfCard(card: string): Promise<unknown> {
  const [, head] = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card) ?? [];
  if (head === undefined || head.length > LONGEST_HEAD) return undefined;
  const yaml: typeof Yaml = await import("yaml");
  try {
    return yaml.parse(head, { maxAliasCount: 0, logLevel: "silent" });
  } catch {
    return undefined; // a card is for people: without it, names of files tell
  }
}

const LONGEST_HEAD = 2 ** 18;

function configsOf(head: unknown): Config[] {
  const list = (head as { configs?: unknown } | undefined)?.configs;
  return (Array.isArray(list) ? list : []).flatMap((item: unknown) => {
    const { config_name: name, data_files: files, default: isDefault } = (item ?? {}) as Record<string, unknown>;
    const splits = splitsOf(files);
    return typeof name === "string" && splits.size > 0 ? [{ name, isDefault: isDefault === true, splits }] : [];
  });
}

function splitsOf(files: unknown): Map<string, string[]> {
  const splits = new Map<string, string[]>();
  for (const item of Array.isArray(files) ? files : [files]) {
    const isNamed = typeof item === "object" && item !== null;
    const { split, path } = isNamed ? (item as Record<string, unknown>) : { split: DEFAULT_SPLIT, path: item };
    const patterns = (Array.isArray(path) ? path : [path]).filter((each) => typeof each === "string");
    if (typeof split === "string" && patterns.length > 0)
      splits.set(split, [...(splits.get(split) ?? []), ...patterns.map((each) => each.replace(/^\.\//, ""))]);
  }
  return splits;
}
