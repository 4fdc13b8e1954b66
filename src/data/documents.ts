// Documents: the token ids of rows, with a mark at those that are trained. They lie in memory or in a file
// (prepared/documents-file.ts); who makes batches of them, or a fingerprint, does not know which.
import { UserError } from "../errors.js";
import { detectFormat, renameColumns, type RowFormat } from "./conversation.js";
import type { RowsFingerprint } from "./fingerprint.js";
import { addCounts, type EncodeSettings, NO_ROWS, type RowCounts, rowEncoder } from "./prepared/encode-rows.js";
import type { Row } from "./rows.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

export interface Document {
  tokens: Int32Array;
  /** 1: the loss is taken where this token is the one predicted. The first is never predicted: 0. */
  trained: Uint8Array;
  /** The row it comes from. */
  place: string;
}

export interface Documents {
  readonly length: number;
  /** Tokens of a document, without reading it. */
  lengthOf(index: number): number;
  /** The caller owns what is read from a file, and must not change what is in memory. */
  document(index: number): Document;
  /** Taken when a file was written, so that nobody need read it for them. */
  readonly facts?: DocumentFacts;
  /** Closes the file. */
  close(): void;
}

export interface DocumentFacts {
  fingerprint: RowsFingerprint;
  largestToken: number;
}

export interface DocumentSettings extends EncodeSettings {
  format: RowFormat | "auto";
  /** The file's column by our name, as {prompt: "question"}. */
  columns: Record<string, string>;
}

/** Counts of tokens are those of the documents that are kept. */
export interface DataReport extends RowCounts {
  /** What rows hold, of each source another at most. */
  formats: readonly RowFormat[];
  /** trainedTokens / tokens. */
  trainedShare: number;
}

export const inMemory = (documents: readonly Document[]): Documents => ({
  length: documents.length,
  lengthOf: (index) => documents[index].tokens.length,
  document: (index) => documents[index],
  close: () => {},
});

/** All of them, one after the other. */
export function* eachDocument(documents: Documents): Generator<Document> {
  for (let i = 0; i < documents.length; i++) yield documents.document(i);
}

/** Rows that are all in memory. Errors: UserError for rows that cannot be read as the format says, and when no token is trained. */
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

/** `place` is the first row's. Errors: UserError when no token is trained. */
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
        : settings.assistant_only_loss && formats.some((format) => ["messages", "sharegpt", "alpaca"].includes(format))
          ? "They have no turn of the assistant that the chat template shows; set assistant_only_loss: false to " +
            "train on all tokens."
          : "They are shorter than two tokens; check that the columns named are those with the text.";
  throw new UserError(
    `${place}: no token of ${rows === 1 ? "the row" : `the ${rows} rows`} is trained (format ${formats.join(" and ")}, expected at least one). ${remedy}`,
  );
}
