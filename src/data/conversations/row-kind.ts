// What a kind of row is: the columns that tell it, those that it reads, and how it is read. A kind is one file that exports
// one of these, and a line in registry.ts.
import type { Row } from "../rows.js";
import type { Sample } from "./sample.js";

export interface RowKind {
  /** As the setting `format` has it. */
  name: string;
  /** One line: what such a row holds. */
  about: string;
  /** The columns without which a row is not of this kind: all of one of these lists. */
  needs: readonly (readonly string[])[];
  /** Columns that are read where they are there, beside those. */
  reads: readonly string[];
  /** Of those, what a row has no place for. */
  idle?(value: Readonly<Record<string, unknown>>): readonly string[];
  /** The checked content. Errors: UserError that names the row and the field. */
  readSample(row: Row): Sample;
}
