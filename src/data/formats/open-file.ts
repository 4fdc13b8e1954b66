// One file of rows: its format, and its rows as a stream. The file is opened when rows are asked for, and closed when
// they end or the reader stops.
import { closeSync, readSync } from "node:fs";
import { openForReading } from "../../read-file.js";
import type { Row } from "../rows.js";
import { compressionOf, expanded } from "./compression.js";
import type { FileFormat, FileInput } from "./format.js";
import { FORMAT_LIMITS } from "./limits.js";
import { formatOfFile, FORMATS } from "./registry.js";

const CHUNK_BYTES = 1 << 20;

export interface OpenFile {
  path: string;
  format: FileFormat;
  /** The compression around the format, such as "gzip". */
  compression: string | undefined;
  /** Each call reads the file anew. */
  rows(): AsyncIterable<Row[]>;
  /** Bytes read from the file by the last call of `rows`. */
  bytesRead(): number;
}

/** `wanted` is the name of a format; undefined: recognize it. Errors: UserError. */
export async function openFile(path: string, wanted?: string): Promise<OpenFile> {
  const around = compressionOf(await headOf(fileBytes(path)));
  let read = 0;
  const bytes = (): AsyncIterable<Uint8Array> => {
    read = 0;
    const raw = counted(fileBytes(path), (count) => (read += count));
    return around === undefined ? raw : expanded(raw, around, path);
  };
  const format = FORMATS.find(({ name }) => name === wanted) ?? formatOfFile(path, await headOf(bytes()));
  const input: FileInput = { path, bytes, compression: around?.name };
  return { path, format, compression: around?.name, rows: () => format.read(input), bytesRead: () => read };
}

async function headOf(bytes: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  for await (const chunk of bytes) return chunk.subarray(0, FORMAT_LIMITS.head);
  return new Uint8Array();
}

async function* counted(chunks: AsyncIterable<Uint8Array>, seen: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    seen(chunk.length);
    yield chunk;
  }
}

async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
  const file = openForReading(path);
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      const count = readSync(file, chunk);
      if (count === 0) break;
      yield chunk.subarray(0, count);
    }
  } finally {
    closeSync(file);
  }
}
