// Reads the words after a command's name: flags of its table, --json, and the one word that may stand alone. Checks
// names and forms; the settings read the values.
import type { Command } from "../commands/command.js";
import { nearestName, UserError } from "../errors.js";
import { unknownSetting } from "../settings/resolve.js";
import { flagOf, nameOf, type SettingRow, type SettingValue } from "../settings/table.js";
import { metavar } from "../settings/values.js";

export interface ParsedFlags {
  flags: Record<string, SettingValue>;
  /** The settings file, if the command takes one. */
  file?: string;
  json: boolean;
}

/** Forms: --name value, --name=value, --name and --no-name for booleans, names with - or _, -- before a last word. */
export function parseFlags(command: Command, words: readonly string[]): ParsedFlags {
  const parsed: ParsedFlags = { flags: {}, json: false };
  const { rows } = command.settings;
  const alone: string[] = [];
  const set = (name: string, value: SettingValue, written: string): void => {
    if (Object.hasOwn(parsed.flags, name)) throw new UserError(`${written} is given a second time. Give it once.`);
    parsed.flags[name] = value;
  };

  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === "--") {
      alone.push(...words.slice(i + 1));
      break;
    }
    if (word === "--json") {
      if (command.json !== true) throw new UserError(`--json is not understood by ${command.name}. Leave it out.`);
      parsed.json = true;
    } else if (word.startsWith("--")) {
      const equals = word.indexOf("=");
      const written = equals < 0 ? word : word.slice(0, equals);
      const name = nameOf(written.slice(2));
      const row: SettingRow | undefined = Object.hasOwn(rows, name) ? rows[name] : undefined;
      const next = words[i + 1];
      if (row === undefined) set(negated(command, name, written, equals < 0), false, written);
      else if (equals >= 0) set(name, word.slice(equals + 1), written);
      else if (row.kind === "boolean" && next !== "true" && next !== "false") set(name, true, written);
      else if (next === undefined || next.startsWith("--")) {
        const hint = next === undefined ? "" : ` A value that starts with -- is written ${written}=${next}.`;
        throw new UserError(`${written} has no value (expected ${written} ${metavar(row)}).${hint}`);
      } else {
        const values = takesSeveral(row) ? wordsFrom(words, i + 1) : [next];
        set(name, values.length === 1 ? next : values, written);
        i += values.length;
      }
    } else if (word.startsWith("-") && word.length > 1) {
      throw new UserError(
        `${word} is unknown. Flags are long and start with two dashes; see: revmoe ${command.name} --help`,
      );
    } else alone.push(word);
  }
  placeAlone(command, alone, parsed);
  return parsed;
}

/**
 * Divides words into the command's own and those it passes on: all from the first word that is neither a flag nor a
 * flag's value.
 */
export function ownWords(
  command: Command,
  words: readonly string[],
): { own: readonly string[]; passed: readonly string[] } {
  if (command.passesOn === undefined) return { own: words, passed: [] };
  let end = 0;
  while (end < words.length && words[end].startsWith("-")) {
    const row: SettingRow | undefined = command.settings.rows[nameOf(words[end].slice(2).split("=")[0])];
    end += row === undefined || row.kind === "boolean" || words[end].includes("=") ? 1 : 2;
  }
  return { own: words.slice(0, end), passed: words.slice(end) };
}

const takesSeveral = (row: SettingRow): boolean =>
  row.kind === "string" && (row.fromList !== undefined || row.wholeWords === true);

/** The words from here to the next flag or settings file, at least one: the values of a flag that takes several. */
function wordsFrom(words: readonly string[], start: number): string[] {
  const end = words.findIndex((word, i) => i > start && (word.startsWith("-") || SETTINGS_FILE.test(word)));
  return words.slice(start, end < 0 ? undefined : end);
}

const SETTINGS_FILE = /\.ya?ml$|(^|\/)config\.json$/;

/** The boolean setting that `--no-packing` turns off. */
function negated(command: Command, name: string, written: string, bare: boolean): string {
  const positive = name.startsWith("no_") ? name.slice(3) : "";
  const row: SettingRow | undefined = Object.hasOwn(command.settings.rows, positive)
    ? command.settings.rows[positive]
    : undefined;
  if (row?.kind === "boolean") {
    if (!bare) throw new UserError(`${written} takes no value. Give ${written} or ${flagOf(positive)}.`);
    return positive;
  }
  if (row !== undefined)
    throw new UserError(`${written} is unknown: ${positive} is no switch. Give ${flagOf(positive)} ${metavar(row)}.`);
  const switches = Object.entries(command.settings.rows)
    .filter(([, { kind }]) => kind === "boolean")
    .map(([known]) => known);
  const near = positive === "" ? undefined : nearestName(positive, switches);
  if (near !== undefined) throw new UserError(`${written} is unknown. Did you mean ${flagOf(`no_${near}`)}?`);
  const { positional } = command;
  if (name === "config" && positional !== undefined && positional.setting === undefined) {
    throw new UserError(
      `${written} is unknown. The settings file stands without a flag: revmoe ${command.name} ${positional.label}`,
    );
  }
  throw unknownSetting(command.settings, written, name);
}

function placeAlone({ name, positional, settings }: Command, alone: string[], parsed: ParsedFlags): void {
  const row = positional?.setting === undefined ? undefined : settings.rows[positional.setting];
  const allowed = positional === undefined ? 0 : row && takesSeveral(row) ? alone.length : 1;
  if (alone.length > allowed) {
    const expected = positional === undefined ? "flags only" : `one ${positional.label} and flags`;
    throw new UserError(`"${alone[allowed]}" is one word too many (expected ${expected}). See: revmoe ${name} --help`);
  }
  if (positional === undefined || alone.length === 0) return;
  if (positional.setting === undefined) parsed.file = alone[0];
  else if (Object.hasOwn(parsed.flags, positional.setting)) {
    throw new UserError(
      `${positional.label} is given twice: as "${alone[0]}" and as ${flagOf(positional.setting)}. Give it once.`,
    );
  } else parsed.flags[positional.setting] = alone.length === 1 ? alone[0] : alone;
}
