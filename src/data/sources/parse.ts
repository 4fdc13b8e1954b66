// Reads and checks the text or the list of sources. As text, each source is FILE[SPLIT:ROWS]:WEIGHT with commas
// between; everything after FILE is optional. A name that exists as it is written is taken as it is.
import { existsSync } from "node:fs";
import { nearestName, UserError } from "../../errors.js";
import { ROW_FORMATS } from "../conversations/row-kind.js";
import { FORMAT_NAMES } from "../formats/registry.js";
import { quoted } from "../limits.js";
import { describe, keyList } from "../rows.js";
import type { Source } from "./source.js";

/** FILE[SUBSET/SPLIT:ROWS]:WEIGHT; the brackets hold at least one of their parts. */
const WRITTEN =
  /^(?<file>.+?)(?:\[(?:(?:(?<subset>[\w.-]+)\/)?(?<split>[A-Za-z_][\w.-]*))?(?::(?<rows>\d{1,12}))?\])?(?::(?<weight>\d+(?:\.\d*)?|\.\d+))?$/;

/** Errors: UserError that names the setting and the source. */
export function parseSources(given: string | readonly unknown[], setting = "train_file"): Source[] {
  const list = typeof given === "string" ? partsOf(given, setting) : given;
  const sources = list.map((item, i) =>
    typeof item === "string" ? readText(item, setting) : readMap(item, `${setting}[${i}]`),
  );
  checkWeights(sources, setting);
  return sources;
}

function partsOf(text: string, setting: string): unknown[] {
  if (existsSync(text)) return [{ file: text }];
  return jsonList(text, setting) ?? text.split(",").map((part) => part.trim());
}

/** A list from YAML, as JSON. Undefined for a name, which may also begin with a bracket, as globs do. */
function jsonList(text: string, setting: string): unknown[] | undefined {
  if (!/^\s*\[/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown[];
  } catch (error) {
    if (!/^\s*\[\s*["{]/.test(text)) return undefined;
    throw new UserError(`${setting}: not valid JSON: ${quoted((error as Error).message)}. Mend the list.`);
  }
}

function readText(text: string, setting: string): Source {
  if (existsSync(text)) return { file: text };
  const { file, subset, split, rows, weight } = WRITTEN.exec(text)?.groups ?? {};
  if (file === undefined) throw new UserError(`${setting}: an empty name stands between commas. Remove a comma.`);
  return checked(
    {
      file,
      ...(weight !== undefined && { weight: Number(weight) }),
      ...(rows !== undefined && { rows: Number(rows) }),
      ...(split !== undefined && { split }),
      ...(subset !== undefined && { subset }),
    },
    `${setting}: ${quoted(text)}`,
  );
}

const KINDS = {
  file: "text",
  weight: "number",
  rows: "number",
  split: "text",
  subset: "text",
  format: "text",
  columns: "map",
  file_format: "text",
} as const satisfies Record<keyof Source, "text" | "number" | "map">;
const NAMES = Object.keys(KINDS) as (keyof Source)[];

function readMap(item: unknown, where: string): Source {
  if (typeof item !== "object" || item === null || Array.isArray(item))
    throw new UserError(`${where} is ${describe(item)} (expected a name, or a map with "file").`);
  for (const [key, value] of Object.entries(item)) {
    const kind = (KINDS as Record<string, string>)[key];
    if (kind === undefined) {
      const near = nearestName(key.slice(0, 60), NAMES);
      throw new UserError(
        `${where}: "${quoted(key)}" is unknown (expected ${keyList(NAMES)}).${near === undefined ? "" : ` Did you mean "${near}"?`}`,
      );
    }
    const isMap = typeof value === "object" && value !== null && Object.values(value).every(isText);
    if (kind === "text" ? !isText(value) : kind === "number" ? typeof value !== "number" : !isMap)
      throw new UserError(`${where}: ${key} is ${describe(value)} (expected a ${kind}).`);
  }
  if (!("file" in item)) throw new UserError(`${where}: file is missing (expected a path, a glob or a name on a hub).`);
  return checked(item as Source, where);
}

const isText = (value: unknown): boolean => typeof value === "string" && value !== "";

function checked(source: Source, where: string): Source {
  const { weight, rows, format, file_format: name } = source;
  if (weight !== undefined && !(weight > 0 && Number.isFinite(weight)))
    throw new UserError(`${where}: weight is ${weight} (expected a number above 0). Leave the source out for none.`);
  if (rows !== undefined && !(Number.isSafeInteger(rows) && rows > 0))
    throw new UserError(`${where}: rows is ${rows} (expected an integer above 0). Leave it out for all rows.`);
  if (format !== undefined && !ROW_FORMATS.some((known) => known === format))
    throw new UserError(`${where}: format is "${quoted(format)}" (expected ${ROW_FORMATS.join(", ")}).`);
  if (name !== undefined && !FORMAT_NAMES.includes(name))
    throw new UserError(`${where}: file_format is "${quoted(name)}" (expected ${FORMAT_NAMES.join(", ")}).`);
  return source;
}

function checkWeights(sources: Source[], setting: string): void {
  const without = sources.find(({ weight }) => weight === undefined);
  const withOne = sources.find(({ weight }) => weight !== undefined);
  if (sources.length === 0) throw new UserError(`${setting}: the list is empty (expected at least one file).`);
  if (without && withOne) {
    throw new UserError(
      `${setting}: ${withOne.file} has a weight and ${without.file} has none (expected one for each, or for none). Add it, or remove all.`,
    );
  }
}
