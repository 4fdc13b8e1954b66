// From the settings' files of rows to documents, trained and held out, and whether a model has all of their tokens. Reads only.
import { type DataReport, type Documents, eachDocument, inMemory, makeDocuments } from "../data/documents.js";
import { readRows, type Row } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import type { TrainSettings } from "./settings/settings.js";

/** The rows of settings as documents, trained and held out. */
export function readData(
  settings: TrainSettings,
  tokenizer: Tokenizer,
): { documents: Documents; evalDocuments: Documents; report: DataReport } {
  const rows = readRows(settings.train_file);
  const held = settings.validation_rows;
  if (held >= rows.length) {
    throw new UserError(
      `validation_rows: ${held} rows cannot be held out of ${rows.length} (${settings.train_file}). Use fewer.`,
    );
  }
  const make = (some: Row[]) => makeDocuments(some, tokenizer, settings);
  const { documents, report } = make(held > 0 ? rows.slice(0, -held) : rows);
  const evalRows = settings.validation_file ? readRows(settings.validation_file) : held > 0 ? rows.slice(-held) : [];
  const evalDocuments = inMemory(evalRows.length > 0 ? make(evalRows).documents : []);
  return { documents: inMemory(documents), report, evalDocuments };
}

/** Refuses a document with a token that the model does not have. */
export function checkTokens(documents: Documents, vocabSize: number): void {
  if (documents.facts && documents.facts.largestToken < vocabSize) return;
  for (const { tokens, place } of eachDocument(documents)) {
    const bad = tokens.find((token) => token >= vocabSize);
    if (bad !== undefined) {
      throw new UserError(
        `${place}: token ${bad} is outside the model's vocabulary of ${vocabSize}. The tokenizer.json does not belong to this model.`,
      );
    }
  }
}
