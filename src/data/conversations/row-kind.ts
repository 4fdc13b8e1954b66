// What a kind of row is: the columns that identify it, the columns it reads, and how it is read. A kind is a name here,
// one file that exports a `RowKind`, and a line in registry.ts. Imports no values, since the settings import the names.
import type { Row } from "../rows.js";
import type { Sample } from "./sample.js";

/** Names for the setting `format`, in the order in which kinds are tried. */
export const ROW_FORMATS = ["messages", "sharegpt", "prompt_completion", "alpaca", "text", "tokens"] as const;
export type RowFormat = (typeof ROW_FORMATS)[number];

export interface RowKind {
  /** The kinds of samples that its rows become. */
  makes: readonly Sample["kind"][];
  /** Lists of columns; a row of this kind has all columns of one of the lists. */
  needs: readonly (readonly string[])[];
  /** Other columns that are read if a row has them. */
  reads: readonly string[];
  /** Columns of `reads` that have no use in this row. */
  idle?(value: Readonly<Record<string, unknown>>): readonly string[];
  /** The checked content. Errors: UserError that names the row and the field. */
  readSample(row: Row): Sample;
}
