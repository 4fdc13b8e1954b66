// The small files of what a run saves, where they differ from the source's. If a model learns to end its turns with
// another token than its files name, they must say so, or other tools run on past every end. Makes no tensors.
import { GENERATION_FILE, withEndFirst } from "../../checkpoint/end-ids.js";
import { type ModelSource, withFiles } from "../../checkpoint/source.js";
import { type Document, type Documents, eachDocument } from "../../data/documents.js";
import type { Tokenizer } from "../../data/tokenizer/tokenizer.js";
import { turnEnd } from "../../data/turn-end.js";
import { UserError } from "../../errors.js";

export interface ResultFiles {
  source: ModelSource;
  notes: string[];
}

/**
 * The source with the result's end tokens: first the one that `documents` train after a turn of the assistant, then the
 * source's.
 */
export function withTrainedEnd(source: ModelSource, tokenizer: Tokenizer, documents: Documents): ResultFiles {
  const end = endOfTurns(tokenizer);
  if (end === undefined || !isTrained(documents, end)) return { source, notes: [] };
  const text = withEndFirst(source, end, tokenizer.eosId);
  if (text === undefined) return { source, notes: [] };
  const { eos_token_id: ids } = JSON.parse(text) as { eos_token_id: number[] };
  const name = tokenizer.nameOf(end);
  return {
    source: withFiles(source, { [GENERATION_FILE]: Buffer.from(text) }),
    notes: [
      `${name} (${end}) is trained as the end of a turn; what is saved says so in ${GENERATION_FILE} (eos_token_id ${JSON.stringify(ids)}), so that other tools stop there`,
    ],
  };
}

/** The end token of a turn; undefined if the template refuses two plain turns. */
function endOfTurns(tokenizer: Tokenizer): number | undefined {
  if (tokenizer.chatTemplate === undefined) return undefined;
  try {
    return turnEnd(tokenizer);
  } catch (failure) {
    if (failure instanceof UserError) return undefined;
    throw failure;
  }
}

function isTrained(documents: Documents, id: number): boolean {
  for (const document of eachDocument(documents)) if (trains(document, id)) return true;
  return false;
}

const trains = ({ tokens, trained }: Document, id: number): boolean =>
  tokens.some((token, i) => token === id && trained[i] === 1);
