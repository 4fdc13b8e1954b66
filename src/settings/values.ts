// One value of one setting: read from the words of a flag, from a YAML node or from a program, checked against its row,
// and written as words again. Does not know where tables come from.
import { excerpt, nearestName, UserError } from "../errors.js";
import { formatNumber } from "../format.js";
import { MOST_OF_ANY } from "./limits.js";
import { flagOf, type Range, type Plain, type SettingRow, type SettingValue } from "./table.js";

/** A value as given. `place` is "run.yaml:7:", or null for a flag; `text` is the file's own words for a scalar. */
export interface Entry {
  name: string;
  value: unknown;
  text: string | null;
  place: string | null;
  /** Given by a program, which uses names and not flags. */
  byName?: boolean;
}

const LONGEST_SHOWN = 300;

/** -1/16 as a number; also in a file, although YAML has no fractions. */
export const FRACTION = /^([-+]?\d+)\/([1-9]\d*)$/;
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;

/** The checked value of an entry. */
export function readEntry(row: SettingRow, entry: Entry): SettingValue {
  const given = entry.place === null && entry.byName !== true ? flagOf(entry.name) : entry.name;
  const subject = `${entry.place === null ? "" : `${entry.place} `}${given} ${showEntry(entry)}`;
  const expected = `(expected ${expectation(isTooLarge(row, entry.value) ? { ...row, max: MOST_OF_ANY } : row)})`;
  if (entry.value === null) {
    throw new UserError(`${entry.place} ${entry.name} has no value ${expected}. Give one, or remove the line.`);
  }
  const value = convert(row, entry);
  if (value === undefined || !isInRange(row, value))
    throw new UserError(`${subject} is not possible ${expected}.${advice(row, entry)}`);
  return value;
}

function convert(row: SettingRow, entry: Entry): SettingValue | undefined {
  const { value, place } = entry;
  if (!isList(row)) return convertOne(row, entry);
  const parts: unknown[] = Array.isArray(value)
    ? value
    : typeof value === "string" && place === null && !(row.kind === "string" && row.wholeWords === true)
      ? value.split(",")
      : [value];
  const values = parts.map((part) =>
    convertOne(row, { ...entry, value: typeof part === "string" ? part.trim() : part }),
  );
  const distinct = new Set(values);
  if (parts.length === 0) return Array.isArray(row.default) && row.default.length === 0 ? [] : undefined;
  return distinct.has(undefined) || distinct.size < parts.length ? undefined : (values as (string | number)[]);
}

const isList = (row: SettingRow): boolean => "list" in row && row.list === true;

function convertOne(row: SettingRow, { value, text, place }: Entry): SettingValue | undefined {
  // In a file, YAML decides types: "3" in quotes is not a number. A flag is always text.
  const words = typeof value === "string" && place === null;
  switch (row.kind) {
    case "string":
      if (Array.isArray(value) && value.length > 0) return row.fromList?.(value);
      // An unquoted 2024 may be meant as a folder's name.
      return typeof value === "string" ? value : typeof value === "number" ? (text ?? String(value)) : undefined;
    case "choice":
      return typeof value === "string" && row.choices.includes(value) ? value : undefined;
    case "integer":
    case "number": {
      const [, over, under] = (row.kind === "number" && typeof value === "string" && FRACTION.exec(value)) || [];
      const number =
        under !== undefined ? Number(over) / Number(under) : words && NUMBER.test(value) ? Number(value) : value;
      if (typeof number !== "number" || !Number.isFinite(number)) return undefined;
      return row.kind === "integer" && !Number.isSafeInteger(number) ? undefined : number;
    }
    case "boolean":
      if (words) return value === "true" ? true : value === "false" ? false : undefined;
      return typeof value === "boolean" ? value : undefined;
    case "map":
      return words ? mapFromText(value) : mapFromValue(value);
    case "values":
      return valuesFrom(words ? textMap(value) : value);
  }
}

/** "prompt=question,completion=answer" */
function mapFromText(text: string): Record<string, string> | undefined {
  const map: Record<string, string> = {};
  for (const pair of text === "" ? [] : text.split(",")) {
    const [, key, value] = /^([^=]+)=(.+)$/.exec(pair.trim()) ?? [];
    if (key === undefined || Object.hasOwn(map, key)) return undefined;
    map[key] = value;
  }
  return map;
}

function mapFromValue(value: unknown): Record<string, string> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return Object.values(value).every((word) => typeof word === "string")
    ? { ...(value as Record<string, string>) }
    : undefined;
}

/** JSON, or key=value pairs; in pairs, true, false and numbers are read as such. */
function textMap(text: string): unknown {
  try {
    if (text.trimStart().startsWith("{")) return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
  const pairs = mapFromText(text);
  if (pairs === undefined) return undefined;
  const plain = (word: string): Plain =>
    word === "true" || word === "false" ? word === "true" : NUMBER.test(word) ? Number(word) : word;
  return Object.fromEntries(Object.entries(pairs).map(([key, word]) => [key, plain(word)]));
}

function valuesFrom(value: unknown): Record<string, Plain> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return Object.values(value).every((each) => ["string", "number", "boolean"].includes(typeof each))
    ? { ...(value as Record<string, Plain>) }
    : undefined;
}

function isInRange(row: SettingRow, value: SettingValue): boolean {
  if (Array.isArray(value)) return value.every((one) => isInRange(row, one as SettingValue));
  if (typeof value === "string") {
    if (row.kind !== "string") return true;
    return (value !== "" || row.required !== true) && (row.pattern?.test(value) ?? true);
  }
  if (typeof value !== "number") return true;
  const usual = row.kind === "integer" ? MOST_OF_ANY : Infinity;
  const { min = -usual, max = usual, above = -Infinity, below = Infinity, oneOf } = row as Range;
  return value >= min && value <= max && value > above && value < below && (oneOf?.includes(value) ?? true);
}

/** Whether only the bound of all whole numbers refuses the value; no other message names this bound. */
const isTooLarge = (row: SettingRow, value: unknown): row is SettingRow & { kind: "integer" } =>
  row.kind === "integer" &&
  row.max === undefined &&
  (typeof value === "number" || typeof value === "string") &&
  Number(value) > MOST_OF_ANY;

function advice(row: SettingRow, { value, place }: Entry): string {
  if (row.kind === "choice" && typeof value === "string") {
    const wrong = value.split(",").find((word) => !row.choices.includes(word)) ?? value;
    const near = nearestName(wrong, row.choices);
    return near === undefined ? "" : ` Did you mean ${near}?`;
  }
  const quoted =
    place !== null &&
    typeof value === "string" &&
    (row.kind === "integer" || row.kind === "number") &&
    NUMBER.test(value);
  return quoted ? " Remove the quotes." : "";
}

/** What a row accepts, in words: "a number above 0". */
export function expectation(row: SettingRow): string {
  return isList(row) ? `${expectedOne(row)}; several with commas between, each once` : expectedOne(row);
}

function expectedOne(row: SettingRow): string {
  switch (row.kind) {
    case "string":
      return row.expected ?? (row.required === true ? "a text that is not empty" : "a text");
    case "boolean":
      return "true or false";
    case "choice":
      return row.choices.length === 1 ? row.choices[0] : `one of ${row.choices.join(", ")}`;
    case "map":
      return "names by key, as key=name,key=name";
    case "values":
      return "texts, numbers, true or false by key, as key=value,key=value or as JSON";
    case "integer":
    case "number":
      return expectedNumber(row.kind === "integer" ? "an integer" : "a number", row);
  }
}

function expectedNumber(noun: string, { min, max, above, below, oneOf, expected }: Range): string {
  if (expected !== undefined) return expected;
  if (oneOf) return `one of ${oneOf.join(", ")}`;
  if (min !== undefined && max !== undefined) return `${noun} from ${min} to ${max}`;
  const bounds = [
    min !== undefined ? `of at least ${min}` : above !== undefined ? `above ${above}` : "",
    max !== undefined ? `of at most ${max}` : below !== undefined ? `below ${below}` : "",
  ];
  return [noun, bounds.filter((bound) => bound !== "").join(" and ")].join(" ").trimEnd();
}

/** What stands for the value in --help: FOLDER, N, momentum|additive. */
export function metavar(row: SettingRow): string {
  if (row.metavar !== undefined) return row.metavar;
  return isList(row) ? `${metavarOne(row)},...` : metavarOne(row);
}

function metavarOne(row: SettingRow): string {
  switch (row.kind) {
    case "string":
      return "TEXT";
    case "integer":
      return "N";
    case "number":
      return "X";
    case "boolean":
      return "true|false";
    case "choice":
      return row.choices.join("|");
    case "map":
      return "KEY=NAME,...";
    case "values":
      return "KEY=VALUE,...";
  }
}

/** A value in words that a flag would accept: 1e-5, prompt=question, "" for nothing. */
export function showValue(value: unknown): string {
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "string")
    return value === "" || /\s/.test(value) || value.length > LONGEST_SHOWN ? excerpt(value, LONGEST_SHOWN) : value;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return excerpt(value, LONGEST_SHOWN);
  if (!Object.values(value).every((word) => ["string", "number", "boolean"].includes(typeof word)))
    return excerpt(value, LONGEST_SHOWN);
  const pairs = Object.entries(value).map(
    ([key, word]) => `${key}=${typeof word === "boolean" ? word : showValue(word)}`,
  );
  return pairs.length === 0 ? "{}" : pairs.join(",");
}

/** An entry's value as the person wrote it. */
export const showEntry = ({ text, value }: Entry): string =>
  text === null ? showValue(value) : text.length > LONGEST_SHOWN ? excerpt(text, LONGEST_SHOWN) : text;
