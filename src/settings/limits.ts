// The largest numbers that settings take. They are far above what anybody trains with, and low enough that no list made from
// them is beyond memory, and no count beyond what is exact.

import type { Given } from "./table.js";

/** Of a whole number whose row states no bound of its own. */
export const MOST_OF_ANY = 1e9;
/** Tokens of a row: longer than any context there is. */
export const LONGEST = 2 ** 24;
/** Tokens of all rows of a micro-batch. */
const MOST_TOKENS = 2 ** 25;
/** Rows of a micro-batch, micro-batches of a step. */
export const MOST_ROWS = 65_536;

/** The problem of a micro-batch beyond `MOST_TOKENS`, or false. */
export const tooManyTokens = (rows: number, length: number, at: Given): string | false =>
  rows * length > MOST_TOKENS &&
  `${at.subject("per_device_train_batch_size")} makes micro-batches of ${rows * length} tokens with ${at.mention("max_length")} ` +
    `(expected at most ${MOST_TOKENS}). Set fewer rows and more gradient_accumulation_steps, or a smaller max_length.`;
