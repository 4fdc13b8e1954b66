// Combines settings: flag before file before default; then checks them together. Remembers what the person gave and
// where, so that a setting without effect can be refused under its own name. The result belongs to the caller.
import { nearestName, UserError } from "../errors.js";
import { readSettingsFile } from "./file.js";
import {
  flagOf,
  type Given,
  isSame,
  nameOf,
  type SettingRows,
  type SettingsOf,
  type SettingsTable,
  type SettingValue,
} from "./table.js";
import { type Entry, expectation, metavar, readEntry, showEntry } from "./values.js";

export interface Sources {
  /** A YAML file (JSON is YAML too); paths inside it are relative to the current folder. */
  file?: string;
  /** By name, with dashes or underscores: text as typed, or a value from a program. */
  flags?: Readonly<Record<string, SettingValue>>;
  /** Whether `flags` come from a program: then messages use names, not flags. */
  byName?: boolean;
}

export interface Resolved<Rows extends SettingRows> {
  settings: SettingsOf<Rows>;
  /** The names given by a flag or by the file. */
  given: Set<string>;
}

/** Combines flags, file and defaults and checks them together. Errors: UserError. */
export function resolveTable<Rows extends SettingRows>(table: SettingsTable<Rows>, sources: Sources): Resolved<Rows> {
  const { byName = false } = sources;
  const entries = new Map<string, Entry>();
  for (const entry of sources.file === undefined ? [] : readSettingsFile(sources.file)) {
    if (!Object.hasOwn(table.rows, entry.name)) throw unknownSetting(table, `${entry.place} ${entry.name}`, entry.name);
    entries.set(entry.name, entry);
  }
  for (const [flag, value] of Object.entries(sources.flags ?? {})) {
    const name = nameOf(flag);
    if (!Object.hasOwn(table.rows, name)) throw unknownSetting(table, byName ? name : flagOf(name), name);
    entries.set(name, { name, value, text: null, place: null, byName });
  }

  // Whether the value comes from a run's own record, config.json, which has every setting of that run.
  const isRecorded = (name: string): boolean =>
    sources.file?.endsWith(".json") === true && typeof entries.get(name)?.place === "string";
  const settings: Record<string, SettingValue> = {};
  const given = new Set<string>();
  const missing: string[] = [];
  for (const [name, row] of Object.entries(table.rows)) {
    const entry = entries.get(name);
    if (entry) {
      settings[name] = readEntry(row, entry);
      // A default in a run's record was not asked for by anyone.
      if (!(isRecorded(name) && isSame(settings[name], row.default))) given.add(name);
    } else if (row.default === undefined) missing.push(name);
    else settings[name] = row.default;
  }
  for (const [name, { otherwise }] of Object.entries(table.rows)) {
    if (given.has(name)) continue;
    const rule = otherwise?.find(
      (each) =>
        given.has(each.given) &&
        Object.entries(each.when ?? {}).every(([other, value]) => fits(settings[other], value)),
    );
    if (rule && !(isRecorded(name) && isRecorded(rule.given))) settings[name] = rule.value;
  }
  if (missing.length > 0) throw missingSettings(table.rows, missing, sources);

  const resolved = settings as SettingsOf<Rows>;
  const problem = table.check?.(resolved, speakOf(settings, given, entries));
  if (problem !== undefined) throw new UserError(problem);
  return { settings: resolved, given };
}

const fits = (value: SettingValue, wanted: SettingValue | RegExp): boolean =>
  wanted instanceof RegExp ? wanted.test(String(value)) : value === wanted;

/** The error for a name without a row; `subject` is how the person wrote it, with its place. */
export function unknownSetting(table: SettingsTable, subject: string, name: string): UserError {
  const { elsewhere = {} } = table;
  if (Object.hasOwn(elsewhere, name)) return new UserError(`${subject} is unknown. ${elsewhere[name]}`);
  const near = nearestName(name, Object.keys(table.rows));
  const spelled = near !== undefined && subject.startsWith("--") ? flagOf(near) : near;
  return new UserError(
    `${subject} is unknown. ${spelled === undefined ? seeAll(!subject.startsWith("--")) : `Did you mean ${spelled}?`}`,
  );
}

const seeAll = (byName: boolean): string => (byName ? "docs/settings.md has all." : "See the known ones with --help.");

function missingSettings(rows: SettingRows, missing: string[], { file, byName = false }: Sources): UserError {
  const flags = missing.map((name) => (byName ? name : `${flagOf(name)} ${metavar(rows[name])}`)).join(", ");
  const verb = missing.length === 1 ? "is" : "are";
  if (file !== undefined) {
    return new UserError(`${file}: ${missing.join(", ")} ${verb} missing. Add to the file, or give ${flags}.`);
  }
  const row = rows[missing[0]];
  const expected = missing.length === 1 ? ` (expected ${expectation(row)}: ${row.about})` : "";
  return new UserError(
    `${flags} ${verb} missing${expected}. ${byName ? `Give ${missing.length === 1 ? "it" : "them"}.` : "See --help."}`,
  );
}

function speakOf(settings: Record<string, SettingValue>, given: Set<string>, entries: Map<string, Entry>): Given {
  const shown = (name: string): Entry =>
    entries.get(name) ?? { name, value: settings[name], text: listWords(settings[name]), place: null };
  const byDefault = (name: string): string => `${name} ${showEntry(shown(name))} (the default)`;
  const byFlag = (name: string): string => flagWords(name, shown(name));
  return {
    has: (name) => given.has(name),
    subject: (name) => {
      if (!given.has(name)) return byDefault(name);
      const { place } = shown(name);
      return place === null ? byFlag(name) : `${place} ${name} ${showEntry(shown(name))}`;
    },
    mention: (name) => {
      if (!given.has(name)) return byDefault(name);
      const { place } = shown(name);
      return place === null ? byFlag(name) : `${name} ${showEntry(shown(name))} (${place.slice(0, -1)})`;
    },
  };
}

const listWords = (value: SettingValue): string | null => (Array.isArray(value) ? value.join(",") : null);

function flagWords(name: string, entry: Entry): string {
  if (entry.byName === true) return `${name} ${showEntry(entry)}`;
  if (entry.value === true) return flagOf(name);
  if (entry.value === false) return flagOf(`no_${name}`);
  return `${flagOf(name)} ${showEntry(entry)}`;
}
