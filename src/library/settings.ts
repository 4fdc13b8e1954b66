// Settings as programs give them: the names, types, ranges and checks of the command line's tables, as typed objects. A setting that is
// undefined is one that was not given. Reads no files.
import { UserError } from "../errors.js";
import { resolveTable, type Resolved } from "../settings/resolve.js";
import type { SettingRows, SettingsInput, SettingsTable, SettingValue } from "../settings/table.js";
import type { TRAIN_ROWS } from "../train/settings/rows.js";

/**
 * Settings of a run, by the names of docs/settings.md: `model` and `output_dir`, `train_file` unless rows are given, and any others. Those that
 * are left out have their defaults. Sources of rows may be a list, as in a settings file.
 */
export type Settings = Omit<SettingsInput<typeof TRAIN_ROWS>, "train_file"> & {
  train_file?: SettingsInput<typeof TRAIN_ROWS>["train_file"];
};

/** Errors: UserError for settings of a program that are no object. */
export function checkObject(settings: unknown): void {
  if (typeof settings !== "object" || settings === null)
    throw new UserError(`settings: ${String(settings)} is no object (expected names and values, as { model: "..." }).`);
}

/** A table's settings from a program's. Errors: UserError, with the sentences of the command line, which name settings instead of flags. */
export function readSettings<Rows extends SettingRows>(
  table: SettingsTable<Rows>,
  settings: Readonly<Record<string, unknown>>,
): Resolved<Rows> {
  checkObject(settings);
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  return resolveTable(table, { flags: Object.fromEntries(given) as Record<string, SettingValue>, byName: true });
}
