// Rows into documents, with a report of what became of them. This is for rows that are all in memory; prepared/ does
// the same with threads and a cache, and makes the same report.
import { UserError } from "../errors.js";
import { detectFormat, renameColumns } from "./conversation.js";
import type { RowFormat } from "./conversations/row-kind.js";
import { ROW_KINDS } from "./conversations/registry.js";
import type { Document } from "./documents.js";
import { addCounts, type EncodeSettings, NO_ROWS, type RowCounts, rowEncoder } from "./prepared/encode-rows.js";
import type { Row } from "./rows.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

export interface DocumentSettings extends EncodeSettings {
  format: RowFormat | "auto";
  /** The file's columns by our names, as {prompt: "question"}. */
  columns: Record<string, string>;
}

/** Counts of tokens cover only the documents that are kept. */
export interface DataReport extends RowCounts {
  /** What rows hold; each source may differ. */
  formats: readonly RowFormat[];
  /** trainedTokens / tokens. */
  trainedShare: number;
}

/**
 * For rows that are all in memory. Errors: UserError for rows that are not as the format says, and when no token is
 * trained.
 */
export function makeDocuments(
  rows: Row[],
  tokenizer: Tokenizer,
  settings: DocumentSettings,
): { documents: Document[]; report: DataReport } {
  const renamed = renameColumns(rows, settings.columns);
  const format = detectFormat(renamed, settings.format);
  const { documents, counts } = rowEncoder(tokenizer, settings)(renamed, format);
  return { documents, report: reportOf([format], addCounts(NO_ROWS, counts), rows[0].place, settings) };
}

/** `place` is that of the first row. Errors: UserError when no token is trained. */
export function reportOf(
  formats: readonly RowFormat[],
  counts: RowCounts,
  place: string,
  settings: DocumentSettings,
): DataReport {
  if (counts.trainedTokens === 0) nothingTrained(formats, counts, place, settings);
  return { formats, ...counts, trainedShare: counts.trainedTokens / counts.tokens };
}

function nothingTrained(
  formats: readonly RowFormat[],
  { rows, truncated }: RowCounts,
  place: string,
  settings: DocumentSettings,
): never {
  const remedy =
    settings.excess_length_strategy === "drop"
      ? `Rows of more than max_length ${settings.max_length} tokens are left out; set a larger max_length, or excess_length_strategy: truncate.`
      : truncated > 0
        ? `${truncated} of them were cut at max_length ${settings.max_length}; set a larger max_length.`
        : settings.assistant_only_loss && formats.some((format) => ROW_KINDS[format].makes.includes("messages"))
          ? "They have no turn of the assistant that the chat template shows; set assistant_only_loss: false to " +
            "train on all tokens."
          : "They are shorter than two tokens; check that the columns named are those with the text.";
  throw new UserError(
    `${place}: no token of ${rows === 1 ? "the row" : `the ${rows} rows`} is trained (format ${formats.join(" and ")}, expected at least one). ${remedy}`,
  );
}
