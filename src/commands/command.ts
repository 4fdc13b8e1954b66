// What a command of the command line is: its words, its settings, and a way to load its work. A command's own file is
// light, because --help loads it: it imports only settings, the registries that they follow from, and other words. Its
// line in `revmoe --help` is in registry.ts. The work is in run/NAME.ts, which is loaded when the command runs and may
// import the whole library.
import type { Output } from "../metrics/output.js";
import type { SettingRows, SettingsOf, SettingsTable } from "../settings/table.js";

/** A word that may stand without a flag; several words if its setting takes several. */
export interface Positional {
  /** Its name in the usage line, as CONFIG.yaml. */
  label: string;
  about: string;
  /** The setting that it fills; without one it is the settings file. */
  setting?: string;
}

export interface CommandInput<Rows extends SettingRows = SettingRows> {
  settings: SettingsOf<Rows>;
  /** Names of the settings that the person gave; all others are defaults. */
  given: ReadonlySet<string>;
  /** Whether --json was given: then `out` gets one JSON document and nothing else. */
  json: boolean;
  /** For a command with `passesOn`: the words from the first one that is not its own flag. */
  passed?: readonly string[];
  out: Output;
  err: Output;
}

/** What the module run/NAME.ts exports. */
export interface Work<Rows extends SettingRows = SettingRows> {
  /** Returns the exit code: 0 if all is well. */
  run(input: CommandInput<Rows>): Promise<number>;
}

/** `export const command: Command<typeof ROWS> = { ..., settings: { rows: ROWS } }` gives `run` typed settings. */
export interface Command<Rows extends SettingRows = SettingRows> {
  name: string;
  /** After "Usage: ", as "revmoe train [CONFIG.yaml] [--setting value ...]". */
  usage: string;
  /** An example that can be pasted: one command line or several. */
  example: string;
  settings: SettingsTable<Rows>;
  positional?: Positional;
  /** What the words behind its flags are, if it passes them on unread. */
  passesOn?: Pick<Positional, "label" | "about">;
  /** Whether it takes --json. */
  json?: boolean;
  /** What --json prints, if it is not one document. */
  jsonAbout?: string;
  /** `() => import("./run/NAME.js")` */
  load(): Promise<Work<Rows>>;
}
