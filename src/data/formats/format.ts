// What a file format is: its names, how a file of it is known, and its rows as a stream. A format is one file that exports
// one of these, and a line in registry.ts. Rows come in batches, so that memory does not grow with the file; who asks for a
// batch owns it.
import type { Row } from "../rows.js";

/** What a format reads from. */
export interface FileInput {
  /** As the person named it: the beginning of every place. */
  path: string;
  /** The bytes in their order, without the compression around them. Each call begins anew. */
  bytes(): AsyncIterable<Uint8Array>;
  /** The name of the compression around the file, "gzip" or "zstd"; undefined for a plain file. */
  compression: string | undefined;
}

export interface FileFormat {
  /** As the setting has it. */
  name: string;
  /** Of file names, with the dot and in small letters. */
  endings: readonly string[];
  /** Whether the first bytes of a file, up to 64 KiB, are of this format; for files whose name tells nothing. */
  fits(head: Uint8Array): boolean;
  /** The rows in the order of the file, in batches that are not empty. Errors: UserError with the file and the row. */
  read(input: FileInput): AsyncIterable<Row[]>;
}
