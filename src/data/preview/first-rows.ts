// A look at the first rows: their kind, how long they are, how much of them is trained; and the number of all rows. It
// helps to choose settings before a run reads them all. A look at large files takes seconds.
import type { DocumentSettings } from "../make-documents.js";
import type { OpenSources } from "../sources/open-sources.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { shownRows } from "./shown-rows.js";

export interface RowsLook {
  formats: readonly string[];
  /** Number of all rows; at most as many as are counted. */
  rows: number;
  hasMore: boolean;
  /** Number of rows that were encoded. */
  seen: number;
  /** Their lengths in tokens: half of the rows do not exceed `median`, 99 of 100 do not exceed `most99`. */
  median: number;
  most99: number;
  longest: number;
  meanTokens: number;
  /** From 0 to 1. */
  trainedShare: number;
}

const MOST_ROWS = 1000;
const MOST_TOKENS = 2e6;
const MOST_COUNTED = 200_000;

/** Looks at rows, with `settings` whose max_length cuts nothing. Errors: UserError that names the row. */
export async function lookAtRows(
  opened: Pick<OpenSources, "batches" | "formats">,
  tools: { tokenizer: Tokenizer; settings: DocumentSettings },
): Promise<RowsLook> {
  const lengths: number[] = [];
  let [tokens, trained] = [0, 0];
  for await (const row of shownRows(opened.batches(), MOST_ROWS, { ...tools, names: new Map() })) {
    lengths.push(row.tokens + row.cutTokens);
    tokens += row.tokens + row.cutTokens;
    trained += row.trainedTokens;
    if (tokens > MOST_TOKENS) break;
  }
  let rows = 0;
  for await (const batch of opened.batches()) {
    rows += batch.rows.length;
    if (rows > MOST_COUNTED) break;
  }
  lengths.sort((a, b) => a - b);
  const share = (part: number): number => lengths[Math.max(0, Math.ceil(part * lengths.length) - 1)];
  return {
    formats: [...new Set(opened.formats)],
    rows: Math.min(rows, MOST_COUNTED),
    hasMore: rows > MOST_COUNTED,
    seen: lengths.length,
    median: share(0.5),
    most99: share(0.99),
    longest: share(1),
    meanTokens: tokens / lengths.length,
    trainedShare: trained / tokens,
  };
}
