// What a kind of row is: the columns that tell it, those that it reads, and how it is read. A kind is a name here, one file
// that exports a `RowKind`, and a line in registry.ts. Imports no values: the settings have the names.
import type { Row } from "../rows.js";
import type { Sample } from "./sample.js";

/** As the setting `format` has them, in the order in which they are looked for. */
export const ROW_FORMATS = ["messages", "sharegpt", "prompt_completion", "alpaca", "text", "tokens"] as const;
export type RowFormat = (typeof ROW_FORMATS)[number];

export interface RowKind {
  /** The kinds of samples that its rows become. */
  makes: readonly Sample["kind"][];
  /** The columns without which a row is not of this kind: all of one of these lists. */
  needs: readonly (readonly string[])[];
  /** Columns that are read where they are there, beside those. */
  reads: readonly string[];
  /** Of those, what a row has no place for. */
  idle?(value: Readonly<Record<string, unknown>>): readonly string[];
  /** The checked content. Errors: UserError that names the row and the field. */
  readSample(row: Row): Sample;
}
