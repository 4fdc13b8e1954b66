// The settings of `train`, put together: rows, checks, and how they are read, shown and documented. They are plain
// data; the caller owns it.
import { checkTrainSettings } from "./checks.js";
import { describeTable, tableMarkdown } from "../../settings/help.js";
import { type Resolved, resolveTable, type Sources } from "../../settings/resolve.js";
import { TRAIN_ELSEWHERE, TRAIN_ROWS, type TrainSettings } from "./rows.js";
import { schemaOf } from "../../settings/schema.js";
import type { SettingsTable } from "../../settings/table.js";

export { helpText } from "../../settings/help.js";
export type { TrainSettings } from "./rows.js";

export const TRAIN_TABLE: SettingsTable<typeof TRAIN_ROWS> = {
  rows: TRAIN_ROWS,
  elsewhere: TRAIN_ELSEWHERE,
  check: checkTrainSettings,
};

/**
 * Resolves settings: flags before the YAML file before defaults. Errors: UserError for what is unknown, impossible or
 * without effect.
 */
export function resolveSettings(sources: Sources): Resolved<typeof TRAIN_ROWS> {
  return resolveTable(TRAIN_TABLE, sources);
}

/** For the start of a run: model, data and output, and settings that differ from the defaults, one line each. */
export function describeSettings(settings: TrainSettings): string {
  return describeTable(TRAIN_TABLE, settings);
}

/** The schema of a settings file, for editors: the text of docs/settings.schema.json. */
export function settingsSchema(): string {
  return `${JSON.stringify(schemaOf(TRAIN_TABLE, "Settings of revmoe train"), null, 2)}\n`;
}

/** All settings as Markdown tables. */
export function settingsMarkdown(): string {
  return tableMarkdown(TRAIN_TABLE);
}
