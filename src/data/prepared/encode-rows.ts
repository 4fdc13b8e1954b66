// Rows into documents: each row is read, rendered and encoded within a time limit, then cut or split at max_length;
// rows without a trained token are left out. This is the work of one thread; the caller owns the documents.
import { readSample } from "../conversation.js";
import type { RowFormat } from "../conversations/row-kind.js";
import type { Sample } from "../conversations/sample.js";
import { unreadColumns } from "../conversations/registry.js";
import type { Document } from "../documents.js";
import { encodeSample } from "../encode.js";
import type { TrainedParts } from "../trained-parts.js";
import { secondsFor } from "../limits.js";
import type { Row } from "../rows.js";
import { addFields, type FieldWatch, type SeenField, watchFields } from "../template/unshown-fields.js";
import { eachInTime } from "../time-limit.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { addLengths, countLength, type LengthFacts, NO_LENGTHS } from "./length-facts.js";

export interface EncodeSettings extends TrainedParts {
  max_length: number;
  /** What happens to longer rows; they are cut by default. */
  excess_length_strategy?: "truncate" | "drop";
}

export interface RowCounts {
  rows: number;
  /** Tokens of the documents that are kept; so are trainedTokens. */
  tokens: number;
  trainedTokens: number;
  /** Number of conversations and completions that were cut at max_length. */
  truncated: number;
  /** Number of texts longer than max_length, which became several documents. */
  split: number;
  /**
   * Number of documents left out: without a trained token, with fewer than two tokens, or too long where rows may not
   * be cut.
   */
  dropped: number;
  /** Lengths of whole rows. */
  lengths: LengthFacts;
  /** Keys of conversations, and whether the chat template shows them. */
  fields: readonly SeenField[];
  /** Columns that hold something but are not read, each with its number of rows. */
  unusedColumns: Readonly<Record<string, number>>;
}

export const NO_ROWS: RowCounts = {
  rows: 0,
  tokens: 0,
  trainedTokens: 0,
  truncated: 0,
  split: 0,
  dropped: 0,
  lengths: NO_LENGTHS,
  fields: [],
  unusedColumns: {},
};

export const addCounts = (a: RowCounts, b: RowCounts): RowCounts => ({
  rows: a.rows + b.rows,
  tokens: a.tokens + b.tokens,
  trainedTokens: a.trainedTokens + b.trainedTokens,
  truncated: a.truncated + b.truncated,
  split: a.split + b.split,
  dropped: a.dropped + b.dropped,
  lengths: addLengths(a.lengths, b.lengths),
  fields: addFields(a.fields, b.fields),
  unusedColumns: added(a.unusedColumns, b.unusedColumns),
});

/** Most names that are counted; each row may have names of its own. */
const MOST_NAMES = 50;
const OTHER_NAMES = "others";

function added(a: RowCounts["unusedColumns"], b: RowCounts["unusedColumns"]): RowCounts["unusedColumns"] {
  const sum = new Map(Object.entries(a));
  for (const [name, rows] of Object.entries(b)) {
    const shown = sum.has(name) || sum.size < MOST_NAMES ? name : OTHER_NAMES;
    sum.set(shown, (sum.get(shown) ?? 0) + rows);
  }
  return Object.fromEntries(sum);
}

function unusedColumns(rows: readonly Row[], format: RowFormat): RowCounts["unusedColumns"] {
  const counts = new Map<string, number>();
  for (const { value } of rows)
    for (const name of unreadColumns(value, format)) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries(counts);
}

export interface EncodedRows {
  documents: Document[];
  counts: RowCounts;
}

const READING = { what: "reading the row", remedy: "The row is far too large. Shorten or split it." };

const LIMITS = {
  secondsFor: ({ value }: Row): number => secondsFor(value, Array.isArray(value.messages) ? value.messages.length : 0),
  place: ({ place }: Row): string => `${place}: `,
};

/** Encodes each row whole; returns its documents and their samples. Errors: UserError that names the row. */
export const encodeWhole = (
  rows: Row[],
  format: RowFormat,
  tokenizer: Tokenizer,
  settings: TrainedParts,
): { whole: Document; sample: Sample }[] =>
  eachInTime(rows, READING, LIMITS, (row) => {
    const sample = readSample(row, format);
    return { whole: encodeSample(sample, tokenizer, settings, row.place), sample };
  });

/** Encodes rows of one format, one call after another. Errors: UserError that names the row. */
export type RowEncoder = (rows: Row[], format: RowFormat) => EncodedRows;

/** What one call has learnt of the template is kept for the next. */
export function rowEncoder(tokenizer: Tokenizer, settings: EncodeSettings): RowEncoder {
  const watch = watchFields(tokenizer);
  return (rows, format) => {
    const documents: Document[] = [];
    const lengths = structuredClone(NO_LENGTHS);
    const counts = { ...NO_ROWS, rows: rows.length, lengths, unusedColumns: unusedColumns(rows, format) };
    for (const { whole, sample } of encodeWhole(rows, format, tokenizer, settings)) {
      watchSample(watch, sample, whole.place, settings);
      countLength(lengths, whole, format !== "text");
      const isLong = whole.tokens.length > settings.max_length;
      if (isLong && settings.excess_length_strategy === "drop") {
        counts.dropped++;
        continue;
      }
      const pieces = piecesOf(whole, format, settings.max_length);
      if (isLong) counts[format === "text" ? "split" : "truncated"]++;
      for (const document of pieces) {
        const trained = trainedIn(document);
        if (trained === 0) {
          counts.dropped++;
          continue;
        }
        documents.push(document);
        counts.tokens += document.tokens.length;
        counts.trainedTokens += trained;
      }
    }
    return { documents, counts: { ...counts, fields: watch.taken() } };
  };
}

function watchSample(watch: FieldWatch, sample: Sample, place: string, settings: TrainedParts): void {
  if (sample.kind !== "messages" && sample.kind !== "chat_completion") return;
  const messages = sample.kind === "messages" ? sample.messages : [...sample.prompt, ...sample.completion];
  const kwargs = { ...settings.chat_template_kwargs, ...sample.kwargs };
  watch.see({ messages, tools: sample.tools, place, kwargs });
}

/** What max_length leaves of a row: a text is split into several documents, all else is cut. */
export function piecesOf(whole: Document, format: RowFormat, longest: number): Document[] {
  if (whole.tokens.length <= longest) return [whole];
  return format === "text" ? split(whole, longest) : [slice(whole, 0, longest)];
}

function slice({ tokens, trained, place }: Document, start: number, end: number): Document {
  const piece = { tokens: tokens.slice(start, end), trained: trained.slice(start, end), place };
  piece.trained[0] = 0;
  return piece;
}

/**
 * Consecutive pieces of at most `longest` tokens. If the last would have only one token, the one before gives up a
 * token.
 */
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

export function trainedIn({ trained }: Document): number {
  let sum = 0;
  for (const flag of trained) sum += flag;
  return sum;
}
