// What a command of the command line is: its words, its settings, and a door to the work it does. A command's own file is
// light, for its --help loads it: it imports settings, with the registries they follow from, and other words only. Its line in
// `revmoe --help` is in registry.ts. The work is in run/NAME.ts, loaded when the command is run, and may import the whole library.
import type { Output } from "../metrics/output.js";
import type { SettingRows, SettingsOf, SettingsTable } from "../settings/table.js";

/** The word that may stand without a flag; several where its setting takes several. */
export interface Positional {
  /** How the usage line calls it, as CONFIG.yaml. */
  label: string;
  about: string;
  /** The setting it fills; without one it is the settings file. */
  setting?: string;
}

export interface CommandInput<Rows extends SettingRows = SettingRows> {
  settings: SettingsOf<Rows>;
  /** The names of the settings that the person gave; all others are defaults. */
  given: ReadonlySet<string>;
  /** Whether --json was given: then `out` gets one JSON document and nothing else. */
  json: boolean;
  /** Of a command with `passesOn`, the words from the first on that is no flag of its own. */
  passed?: readonly string[];
  out: Output;
  err: Output;
}

/** The module run/NAME.ts. */
export interface Work<Rows extends SettingRows = SettingRows> {
  /** Returns the exit code: 0 when all is well. */
  run(input: CommandInput<Rows>): Promise<number>;
}

/** `export const command: Command<typeof ROWS> = { ..., settings: { rows: ROWS } }` gives `run` typed settings. */
export interface Command<Rows extends SettingRows = SettingRows> {
  name: string;
  /** After "Usage: ", as "revmoe train [CONFIG.yaml] [--setting value ...]". */
  usage: string;
  /** One command line, or several lines, that can be pasted. */
  example: string;
  settings: SettingsTable<Rows>;
  positional?: Positional;
  /** What words behind its flags are, where it hands them on unread. */
  passesOn?: Pick<Positional, "label" | "about">;
  /** Whether --json is understood. */
  json?: boolean;
  /** What --json prints, where it is not one document. */
  jsonAbout?: string;
  /** `() => import("./run/NAME.js")` */
  load(): Promise<Work<Rows>>;
}
