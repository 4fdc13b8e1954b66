// What a file format is: its names, how its files are recognized, and its rows as a stream. A format is one file that
// exports a `FileFormat`, and a line in registry.ts. Rows come in batches, so memory does not grow with the file; who
// asks for a batch owns it.
import type { Row } from "../rows.js";

/** What a format reads from. */
export interface FileInput {
  /** The path as the person wrote it; the place of every row begins with it. */
  path: string;
  /** The bytes in order, decompressed. Each call begins anew. */
  bytes(): AsyncIterable<Uint8Array>;
  /** The name of the compression around the file, "gzip" or "zstd"; undefined for a plain file. */
  compression: string | undefined;
}

export interface FileFormat {
  /** The name for the setting. */
  name: string;
  /** Endings of file names, with the dot, in small letters. */
  endings: readonly string[];
  /** Whether the first bytes of a file, up to 64 KiB, look like this format; for files whose name does not tell. */
  fits(head: Uint8Array): boolean;
  /** The rows in file order, in non-empty batches. Errors: UserError with the file and the row. */
  read(input: FileInput): AsyncIterable<Row[]>;
}
