// What can be typed after `revmoe`, as far as a shell can complete it: commands, their flags, and the values of flags.
// All of it follows from the registry and the tables of settings.
import { flagOf, type SettingRow } from "../../settings/table.js";
import type { Command } from "../command.js";

/** Known values; or files; or "own": a value that only the person knows; or null: no value at all. */
export type Values = { kind: "choices"; choices: readonly string[] } | { kind: "files" } | { kind: "own" } | null;

export interface TypedFlag {
  /** The flag with its dashes. */
  flag: string;
  about: string;
  /** Null for a flag without a value. */
  values: Values;
}

export interface TypedCommand {
  name: string;
  about: string;
  flags: TypedFlag[];
  /** Values of the word that stands without a flag. */
  alone: Values;
  /** Whether the words after its flags are another command. */
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

/** A switch gets the form that changes something. */
function typedFlag(name: string, row: SettingRow): TypedFlag {
  const about = firstPart(row.about);
  if (row.kind === "boolean" && row.default === true)
    return { flag: flagOf(`no_${name}`), about: `off: ${about}`, values: null };
  return { flag: flagOf(name), about, values: valuesOf(row) };
}

/** A text without a described form may name a file, if its metavar says so. */
function valuesOf(row: SettingRow): Values {
  if (row.kind === "boolean") return null;
  if (row.kind === "choice") return { kind: "choices", choices: row.choices };
  if (row.kind === "integer" || row.kind === "number")
    // A long list is described in words instead.
    return row.oneOf === undefined || row.expected !== undefined
      ? { kind: "own" }
      : { kind: "choices", choices: row.oneOf.map(String) };
  return row.kind === "string" && /FILE|FOLDER|MODEL/.test(row.metavar ?? "") ? { kind: "files" } : { kind: "own" };
}

const LONGEST = 70;

/** The first part of a description, as much as fits into a line of a list. */
function firstPart(about: string): string {
  const [first] = about.split(/[;:(]/);
  const part = first.trim();
  return part.length <= LONGEST ? part : `${part.slice(0, part.lastIndexOf(" ", LONGEST))} ...`;
}

/** In single quotes; `quote` is how the shell writes a quote within them. */
export const quotedFor = (text: string, quote: string): string => `'${text.replaceAll("'", quote)}'`;
