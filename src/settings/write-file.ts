// A settings file as text, for a person to read and change: each setting stands below the description from its row.
// file.ts is the other direction. Writes nothing.
import { createRequire } from "node:module";

import type * as Yaml from "yaml";

import { formatNumber } from "../format.js";
import { showDefault, wrap } from "./help.js";
import type { SettingRows, SettingValue } from "./table.js";

const WIDTH = 100;

export interface FileParts<Rows extends SettingRows> {
  /** Lines above all settings. */
  head: readonly string[];
  /** Settings with values, in this order. */
  settings: Readonly<Partial<Record<keyof Rows & string, SettingValue>>>;
  /** Settings shown with their default, for a person to set. */
  offered: readonly (keyof Rows & string)[];
}

export function settingsFileText<Rows extends SettingRows>(
  rows: Rows,
  { head, settings, offered }: FileParts<Rows>,
): string {
  const said = (name: string, extra = ""): string => comment(`${rows[name].about}${extra}`);
  const set = Object.entries(settings).map(
    ([name, value]) => `${said(name)}\n${name}: ${yamlOf(value as SettingValue)}`,
  );
  const free = offered.map(
    (name) => `${said(name, ` (default ${showDefault(rows[name])})`)}\n# ${name}: ${yamlOf(rows[name].default ?? "")}`,
  );
  const rest = free.length === 0 ? [] : ["# As they are by default; remove the # to change one.", ...free];
  return `${[head.map(comment).join("\n"), ...set, ...rest].join("\n\n")}\n`;
}

/** Lines that begin with spaces are commands and stay whole. */
function comment(line: string): string {
  // A name may have a line break, which must not end the comment.
  const text = line.replaceAll(/[\r\n\u0085\u2028\u2029]+/g, " ");
  const lines = text.startsWith(" ") ? [text] : wrap(text, WIDTH - 2);
  return lines.map((each) => `# ${each}`.trimEnd()).join("\n");
}

function yamlOf(value: SettingValue): string {
  if (typeof value === "number") return formatNumber(value);
  const { stringify } = createRequire(import.meta.url)("yaml") as typeof Yaml;
  const text = stringify(value, { lineWidth: 0, collectionStyle: "flow", blockQuote: false }).trim();
  // Several lines would have to be indented, and would end a comment; JSON, which is also YAML, stays on one line.
  return text.includes("\n") ? JSON.stringify(value) : text;
}
