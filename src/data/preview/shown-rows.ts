// The first rows of a file one by one, as a run would train on them: encoded, cut or split, with the text of each
// token. Rows without a trained token are shown, too.
import type { Document } from "../documents.js";
import type { DocumentSettings } from "../make-documents.js";
import { encodeWhole, piecesOf, trainedIn } from "../prepared/encode-rows.js";
import type { RowBatch } from "../sources/open-sources.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type TokenText, tokenTexts } from "./token-text.js";

export interface ShownRow {
  /** From 1. */
  row: number;
  place: string;
  /** Tokens that max_length leaves; trainedTokens are among them. */
  tokens: number;
  trainedTokens: number;
  cutTokens: number;
  /** More than one if a text is split. */
  documents: number;
  /** Texts of tokens in a range, or of all. It decodes token by token, which takes long for millions. */
  texts(from?: number, to?: number): TokenText[];
}

/** Errors: UserError that names the row. */
export async function* shownRows(
  batches: AsyncIterable<RowBatch>,
  count: number,
  tools: { tokenizer: Tokenizer; names: ReadonlyMap<number, string>; settings: DocumentSettings },
): AsyncGenerator<ShownRow> {
  const { tokenizer, names, settings } = tools;
  let row = 0;
  for await (const { rows, format } of batches) {
    for (const each of rows) {
      if (row === count) return;
      const [{ whole }] = encodeWhole([each], format, tokenizer, settings);
      const pieces = piecesOf(whole, format, settings.max_length);
      const tokens = pieces.reduce((sum, piece) => sum + piece.tokens.length, 0);
      yield {
        row: ++row,
        place: each.place,
        tokens,
        trainedTokens: pieces.reduce((sum, piece) => sum + trainedIn(piece), 0),
        cutTokens: whole.tokens.length - tokens,
        documents: pieces.length,
        texts: (from = 0, to = tokens) =>
          partsOf(pieces, from, to).flatMap((part) => tokenTexts(part, tokenizer, names)),
      };
    }
  }
}

function partsOf(pieces: readonly Document[], from: number, to: number): Document[] {
  let behind = 0;
  return pieces.map(({ tokens, trained, place }) => {
    const [start, end] = [Math.max(0, from - behind), Math.max(0, to - behind)];
    behind += tokens.length;
    return { tokens: tokens.slice(start, end), trained: trained.slice(start, end), place };
  });
}
