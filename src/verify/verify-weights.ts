// Checks the weights of a folder or a file: every file's header and places, the index against the shards, and whether
// all values are finite numbers. Continues past what cannot be read; the rest is returned as one set of tensors, which
// the caller closes.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { countNotFinite } from "../checkpoint/finite.js";
import { INDEX_FILE, isWeightsName, readJsonObject, SINGLE_FILE } from "../checkpoint/folder.js";
import type { Folder } from "../checkpoint/model-files.js";
import { openSafetensors, type SafetensorsFile } from "../checkpoint/safetensors/file.js";
import { formatBytes } from "../format.js";
import { scope } from "../torch/scope.js";
import { attempt, type Report } from "./findings.js";

const SHOWN = 5;

/**
 * All tensors that can be read from the weights in `dir`; undefined if there are none. `whole`: no file is missing or
 * damaged.
 */
export function openWeights(dir: string, report: Report): { folder: Folder; whole: boolean } | undefined {
  const single = existsSync(join(dir, SINGLE_FILE));
  const placed =
    single || !existsSync(join(dir, INDEX_FILE))
      ? undefined
      : attempt(report, join(dir, INDEX_FILE), () => readIndex(dir));
  const unnamed = readdirSync(dir).filter((name) => isWeightsName(name) && name.endsWith(".safetensors"));
  const names = single ? [SINGLE_FILE] : [...new Set([...(placed?.values() ?? []), ...unnamed])];
  const files = new Map<string, SafetensorsFile>();
  for (const name of names) {
    const path = join(dir, name);
    const file = attempt(report, path, () => openSafetensors(path));
    if (file === undefined) continue;
    files.set(name, file);
    const bytes = [...file.entries.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
    report("ok", path, `${file.entries.size} tensors, ${formatBytes(bytes)}; header and places agree with its length`);
  }
  if (placed) compareIndex(dir, placed, files, report);
  if (files.size === 0) {
    if (names.length === 0)
      report("problem", dir, `no weights (expected ${SINGLE_FILE}, or ${INDEX_FILE} with its shards)`);
    return undefined;
  }
  const whole = files.size === names.length && (single || placed !== undefined);
  return { folder: asFolder(dir, files), whole };
}

function asFolder(dir: string, files: Map<string, SafetensorsFile>): Folder {
  const of = new Map(
    [...files.values()].flatMap((file) => [...file.entries.keys()].map((name) => [name, file] as const)),
  );
  return {
    dir,
    tensors: new Map([...files.values()].flatMap(({ entries }) => [...entries])),
    read: (name) => (of.get(name) as SafetensorsFile).read(name),
    close: () => {
      for (const file of files.values()) file.close();
    },
  };
}

function readIndex(dir: string): Map<string, string> {
  const { weight_map: map } = readJsonObject(join(dir, INDEX_FILE));
  const entries = Object.entries((map ?? {}) as Record<string, unknown>);
  const isShard = (name: unknown): name is string =>
    typeof name === "string" && name !== "" && !/[/\\]/.test(name) && name !== "..";
  const odd = entries.find(([, file]) => !isShard(file));
  if (odd || entries.length === 0)
    throw new Error(`weight_map ${odd ? `places ${odd[0]} in ${JSON.stringify(odd[1])}` : "is empty or missing"}`);
  return new Map(entries as [string, string][]);
}

function compareIndex(
  dir: string,
  placed: Map<string, string>,
  files: Map<string, SafetensorsFile>,
  report: Report,
): void {
  const path = join(dir, INDEX_FILE);
  const lacking = [...placed]
    .filter(([name, file]) => files.get(file)?.entries.has(name) === false)
    .map(([name, file]) => `${name} in ${file}`);
  const unlisted = [...files].flatMap(([file, { entries }]) =>
    [...entries.keys()].filter((name) => placed.get(name) !== file),
  );
  if (lacking.length > 0) report("problem", path, `places tensors where they are not: ${some(lacking)}`);
  if (unlisted.length > 0) report("problem", path, `does not list tensors of the shards: ${some(unlisted)}`);
  if (lacking.length + unlisted.length === 0) report("ok", path, `${placed.size} tensors, as the shards have them`);
}

/** Reports one line for every tensor with values that are not finite, and one for all others. */
export function checkValues(where: string, { tensors, read }: Folder, report: Report): void {
  let finite = 0;
  for (const name of tensors.keys()) {
    const counted = attempt(report, where, () => scope(() => countNotFinite(read(name))));
    if (counted === undefined) continue;
    const { nan, infinite } = counted;
    if (nan + infinite === 0) finite++;
    else
      report(
        "problem",
        where,
        `${name} holds ${[nan > 0 ? `${nan} NaN` : "", infinite > 0 ? `${infinite} infinite values` : ""].filter(Boolean).join(" and ")}`,
      );
  }
  if (finite > 0) report("ok", where, `the values of ${finite} tensors are finite`);
}

export const some = (names: string[]): string =>
  `${names.slice(0, SHOWN).join(", ")}${names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ""}`;
