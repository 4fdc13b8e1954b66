// What rows are, from the first of them: their kind, how long they are, how much of them is trained; and how many there are. For a choice of
// settings before a run reads them all. A look at large files takes seconds.
import type { DocumentSettings } from "../make-documents.js";
import type { OpenSources } from "../sources/open-sources.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { shownRows } from "./shown-rows.js";

export interface RowsLook {
  formats: readonly string[];
  /** All rows; or, where there are more than are counted, that many. */
  rows: number;
  hasMore: boolean;
  /** Rows that were looked at. */
  seen: number;
  /** Of these, in tokens: what half of them, and all but one in a hundred, do not exceed. */
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

/** With the `max_length` of the settings that cuts nothing. Errors: UserError that names the row. */
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
