// What can be typed behind `revmoe`, as far as a shell can complete it: commands, their flags, and the values of flags. It follows from the
// registry and the tables of settings.
import { flagOf, type SettingRow } from "../../settings/table.js";
import type { Command } from "../command.js";

/** Values that are known, files, or none: something that only the person knows, or no value at all. */
export type Values = { kind: "choices"; choices: readonly string[] } | { kind: "files" } | { kind: "own" } | null;

export interface TypedFlag {
  /** With its dashes. */
  flag: string;
  about: string;
  /** Null for one that takes none. */
  values: Values;
}

export interface TypedCommand {
  name: string;
  about: string;
  flags: TypedFlag[];
  /** Of the word that stands without a flag. */
  alone: Values;
  /** Whether the words behind its flags are another command's. */
  passesOn: boolean;
}

export function typedCommand(about: string, { name, settings, positional, json, passesOn }: Command): TypedCommand {
  const setting = positional?.setting === undefined ? undefined : settings.rows[positional.setting];
  return {
    name,
    about,
    flags: [
      ...Object.entries(settings.rows).map(([each, row]) => typedFlag(each, row)),
      ...(json === true ? [{ flag: "--json", about: "print one JSON document for machines", values: null }] : []),
      { flag: "--help", about: "what the command does, its settings and an example", values: null },
    ],
    alone: positional === undefined ? null : setting === undefined ? { kind: "files" } : valuesOf(setting),
    passesOn: passesOn !== undefined,
  };
}

/** Of a switch the form that changes something. */
function typedFlag(name: string, row: SettingRow): TypedFlag {
  const about = firstPart(row.about);
  if (row.kind === "boolean" && row.default === true)
    return { flag: flagOf(`no_${name}`), about: `off: ${about}`, values: null };
  return { flag: flagOf(name), about, values: valuesOf(row) };
}

/** Text of which nothing says what it is may name a file; a metavar in capitals says so. */
function valuesOf(row: SettingRow): Values {
  if (row.kind === "boolean") return null;
  if (row.kind === "choice") return { kind: "choices", choices: row.choices };
  if (row.kind === "integer" || row.kind === "number")
    // Where the list is long it is said in words instead.
    return row.oneOf === undefined || row.expected !== undefined
      ? { kind: "own" }
      : { kind: "choices", choices: row.oneOf.map(String) };
  return row.kind === "string" && /FILE|FOLDER|MODEL/.test(row.metavar ?? "") ? { kind: "files" } : { kind: "own" };
}

const LONGEST = 70;

/** A line of a list has no room for more. */
function firstPart(about: string): string {
  const [first] = about.split(/[;:(]/);
  const part = first.trim();
  return part.length <= LONGEST ? part : `${part.slice(0, part.lastIndexOf(" ", LONGEST))} ...`;
}

/** In single quotes, for any of the shells. */
export const quotedFor = (text: string, quote: string): string => `'${text.replaceAll("'", quote)}'`;
