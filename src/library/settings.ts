// Settings as programs give them: typed objects with the names, types, ranges and checks of the command line's tables.
// A setting that is undefined counts as not given. Reads no files.
import { UserError } from "../errors.js";
import { resolveTable, type Resolved } from "../settings/resolve.js";
import type { SettingRows, SettingsInput, SettingsTable, SettingValue } from "../settings/table.js";
import type { TRAIN_ROWS } from "../train/settings/rows.js";

/**
 * Settings of a run, by the names of docs/settings.md: `model`, `output_dir`, `train_file` unless rows are given, and
 * any others. Missing ones have their defaults. Sources of rows may be a list, as in a settings file.
 */
export type Settings = Omit<SettingsInput<typeof TRAIN_ROWS>, "train_file"> & {
  train_file?: SettingsInput<typeof TRAIN_ROWS>["train_file"];
};

/** Errors: UserError if a program's settings are not an object. */
export function checkObject(settings: unknown): void {
  if (typeof settings !== "object" || settings === null)
    throw new UserError(`settings: ${String(settings)} is no object (expected names and values, as { model: "..." }).`);
}

/**
 * Resolves a program's settings by a table. Errors: UserError with the command line's messages, which name settings
 * instead of flags.
 */
export function readSettings<Rows extends SettingRows>(
  table: SettingsTable<Rows>,
  settings: Readonly<Record<string, unknown>>,
): Resolved<Rows> {
  checkObject(settings);
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  return resolveTable(table, { flags: Object.fromEntries(given) as Record<string, SettingValue>, byName: true });
}
