// The largest numbers that settings take. They are far above what anybody trains with, and low enough that lists made
// from them fit memory and counts stay exact.

import type { Given } from "./table.js";

/** For a whole number whose row has no bound of its own. */
export const MOST_OF_ANY = 1e9;
/** Tokens of a row: longer than any existing context. */
export const LONGEST = 2 ** 24;
/** Tokens in all rows of a micro-batch. */
const MOST_TOKENS = 2 ** 25;
/** Rows of a micro-batch, and micro-batches of a step. */
export const MOST_ROWS = 65_536;

/** The message for a micro-batch beyond `MOST_TOKENS`, or false. */
export const tooManyTokens = (rows: number, length: number, at: Given): string | false =>
  rows * length > MOST_TOKENS &&
  `${at.subject("per_device_train_batch_size")} makes micro-batches of ${rows * length} tokens with ${at.mention("max_length")} ` +
    `(expected at most ${MOST_TOKENS}). Set fewer rows and more gradient_accumulation_steps, or a smaller max_length.`;
