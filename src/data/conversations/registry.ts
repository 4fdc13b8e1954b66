// The kinds of rows by their names. A new one is a file, a line here and a name in row-kind.ts.
import { alpaca } from "./alpaca.js";
import { messages } from "./messages.js";
import { promptCompletion } from "./prompt-completion.js";
import type { RowFormat, RowKind } from "./row-kind.js";
import { sharegpt } from "./sharegpt.js";
import { text } from "./text.js";
import { tokens } from "./tokens.js";

export const ROW_KINDS: Readonly<Record<RowFormat, RowKind>> = {
  messages,
  sharegpt,
  prompt_completion: promptCompletion,
  alpaca,
  text,
  tokens,
};

/** All columns that a kind reads. */
export const columnsRead = (format: RowFormat): readonly string[] => [
  ...ROW_KINDS[format].needs.flat(),
  ...ROW_KINDS[format].reads,
];

/** The columns of a row that hold something but are not read. */
export function unreadColumns(value: Readonly<Record<string, unknown>>, format: RowFormat): string[] {
  const read = columnsRead(format);
  const idle = ROW_KINDS[format].idle?.(value) ?? [];
  const isEmpty = (content: unknown): boolean => content === null || content === undefined || content === "";
  return Object.keys(value).filter((key) => (!read.includes(key) || idle.includes(key)) && !isEmpty(value[key]));
}
