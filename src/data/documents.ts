// Rows into documents: columns renamed, the format found, each row encoded, long ones cut or split, and a report of what
// became of them. The documents belong to the caller.
import { UserError } from "../errors.js";
import { detectFormat, readSample, renameColumns, type RowFormat } from "./conversation.js";
import { encodeSample, type TrainedParts } from "./encode.js";
import { secondsFor } from "./limits.js";
import type { Row } from "./rows.js";
import { eachInTime } from "./time-limit.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

export interface Document {
  tokens: Int32Array;
  /** 1: the loss is taken where this token is the one predicted. The first is never predicted: 0. */
  trained: Uint8Array;
  /** The row it comes from. */
  place: string;
}

export interface DocumentSettings extends TrainedParts {
  format: RowFormat | "auto";
  /** The file's column by our name, as {prompt: "question"}. */
  columns: Record<string, string>;
  max_length: number;
  /** What becomes of longer rows; they are cut unless said otherwise. */
  excess_length_strategy?: "truncate" | "drop";
}

export interface DataReport {
  format: RowFormat;
  rows: number;
  /** Of the documents that are kept, as are trainedTokens and trainedShare. */
  tokens: number;
  trainedTokens: number;
  /** trainedTokens / tokens. */
  trainedShare: number;
  /** Conversations and completions cut at max_length. */
  truncated: number;
  /** Texts longer than max_length, which became several documents. */
  split: number;
  /** Documents left out: no token of them is trained, they are shorter than two, or too long and not to be cut. */
  dropped: number;
}

const READING = { what: "reading the row", remedy: "The row is far too large. Shorten or split it." };

const LIMITS = {
  secondsFor: ({ value }: Row): number => secondsFor(value, Array.isArray(value.messages) ? value.messages.length : 0),
  place: ({ place }: Row): string => `${place}: `,
};

/** Errors: UserError for rows that cannot be read as the format says, and when no token of all rows is trained. */
export function makeDocuments(
  rows: Row[],
  tokenizer: Tokenizer,
  settings: DocumentSettings,
): { documents: Document[]; report: DataReport } {
  const renamed = renameColumns(rows, settings.columns);
  const format = detectFormat(renamed, settings.format);
  const report: DataReport = {
    format,
    rows: rows.length,
    tokens: 0,
    trainedTokens: 0,
    trainedShare: 0,
    truncated: 0,
    split: 0,
    dropped: 0,
  };
  const documents: Document[] = [];
  const made = eachInTime(renamed, READING, LIMITS, (row) =>
    encodeSample(readSample(row, format), tokenizer, settings, row.place),
  );
  for (const whole of made) {
    const tooLong = whole.tokens.length > settings.max_length;
    if (tooLong && settings.excess_length_strategy === "drop") {
      report.dropped++;
      continue;
    }
    if (tooLong) report[format === "text" ? "split" : "truncated"]++;
    const pieces = !tooLong
      ? [whole]
      : format === "text"
        ? split(whole, settings.max_length)
        : [slice(whole, 0, settings.max_length)];
    for (const document of pieces) {
      const trained = count(document.trained);
      if (trained === 0) {
        report.dropped++;
        continue;
      }
      documents.push(document);
      report.tokens += document.tokens.length;
      report.trainedTokens += trained;
    }
  }
  if (report.trainedTokens === 0) nothingTrained(report, rows[0].place, settings);
  report.trainedShare = report.trainedTokens / report.tokens;
  return { documents, report };
}

function slice({ tokens, trained, place }: Document, start: number, end: number): Document {
  const piece = { tokens: tokens.slice(start, end), trained: trained.slice(start, end), place };
  piece.trained[0] = 0;
  return piece;
}

/** Consecutive pieces of at most `longest` tokens. The last but one gives up a token, lest the last have only one. */
function split(document: Document, longest: number): Document[] {
  const pieces: Document[] = [];
  const { length } = document.tokens;
  for (let start = 0; start < length; ) {
    const left = length - start;
    const size = left === longest + 1 && longest > 2 ? longest - 1 : Math.min(left, longest);
    pieces.push(slice(document, start, start + size));
    start += size;
  }
  return pieces;
}

function count(flags: Uint8Array): number {
  let sum = 0;
  for (const flag of flags) sum += flag;
  return sum;
}

function nothingTrained({ format, rows, truncated }: DataReport, place: string, settings: DocumentSettings): never {
  const remedy =
    settings.excess_length_strategy === "drop"
      ? `Rows of more than max_length ${settings.max_length} tokens are left out; set a larger max_length, or excess_length_strategy: truncate.`
      : truncated > 0
        ? `${truncated} of them were cut at max_length ${settings.max_length}; set a larger max_length.`
        : format === "messages" && settings.assistant_only_loss
          ? "They have no turn of the assistant that the chat template shows; set assistant_only_loss: false to " +
            "train on all tokens."
          : "They are shorter than two tokens; check that the columns named are those with the text.";
  throw new UserError(
    `${place}: no token of the ${rows} rows is trained (format ${format}, expected at least one). ${remedy}`,
  );
}
