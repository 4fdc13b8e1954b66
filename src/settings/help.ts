// Tables of settings as text: for --help, the docs, and what a run prints at its start. All of it is made from the
// rows.
import { flagOf, isSame, type SettingRow, type SettingRows, type SettingsOf, type SettingsTable } from "./table.js";
import { expectation, metavar, showValue } from "./values.js";

const WIDTH = 100;
const INDENT = 32;

/** Flags by group with their meaning and default, at most 100 columns wide. */
export function helpText(table: SettingsTable): string {
  return [...groups(table.rows)]
    .map(([title, rows]) =>
      [title, ...rows.map(([name, row]) => flagLines(flagUsage(name, row), helpWords(row)))].join("\n"),
    )
    .join("\n\n");
}

/** One flag and its explanation, wrapped beside or below it. */
export function flagLines(flag: string, words: string): string {
  const lines = wrap(words, WIDTH - INDENT);
  const left = `  ${flag}`;
  if (left.length > INDENT - 2) lines.unshift("");
  return lines.map((line, i) => `${(i === 0 ? left : "").padEnd(INDENT)}${line}`.trimEnd()).join("\n");
}

function flagUsage(name: string, row: SettingRow): string {
  return row.kind === "boolean" ? `--[no-]${flagOf(name).slice(2)}` : `${flagOf(name)} ${metavar(row)}`;
}

function helpWords(row: SettingRow): string {
  return `${row.about} (${row.required === true ? "required" : `default ${showDefault(row)}`})`;
}

/** A default as words. */
export function showDefault(row: SettingRow): string {
  const words = Array.isArray(row.default) ? row.default.map(showValue).join(",") : showValue(row.default);
  return words === "" || words === '""' || words === "{}" ? "none" : words;
}

/** Lines of at most `width` letters; a longer word gets its own line. */
export function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last !== "" && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}

function groups(rows: SettingRows): Map<string, [string, SettingRow][]> {
  const byTitle = new Map<string, [string, SettingRow][]>();
  for (const [name, row] of Object.entries(rows)) {
    const title = row.group ?? "Settings";
    byTitle.set(title, [...(byTitle.get(title) ?? []), [name, row]]);
  }
  return byTitle;
}

/** A section with a table per group, for the docs. */
export function tableMarkdown(table: SettingsTable): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|");
  return [...groups(table.rows)]
    .map(([title, rows]) =>
      [
        `### ${title}`,
        "",
        "| setting | value | default | what it is |",
        "| --- | --- | --- | --- |",
        ...rows.map(([name, row]) => {
          const standard =
            row.required === true ? "required" : showDefault(row) === "none" ? "none" : `\`${showDefault(row)}\``;
          return `| \`${name}\` | ${cell(expectation(row))} | ${cell(standard)} | ${cell(row.about)} |`;
        }),
      ].join("\n"),
    )
    .join("\n\n")
    .concat("\n");
}

/** What a run prints at its start: required settings, and all that differ from their default. */
export function describeTable<Rows extends SettingRows>(
  table: SettingsTable<Rows>,
  settings: SettingsOf<Rows>,
): string {
  const named = Object.entries(table.rows).filter(
    ([name, row]) => row.required === true || !isSame(settings[name as keyof Rows], row.default),
  );
  const width = Math.max(...named.map(([name]) => name.length));
  return named.map(([name]) => `${name.padEnd(width)}  ${showValue(settings[name as keyof Rows])}`).join("\n");
}
