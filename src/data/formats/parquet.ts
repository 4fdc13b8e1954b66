// Parquet, compressed by snappy, zstd, gzip, brotli or lz4. Read by row groups, large ones in pieces: memory follows
// the size of a group, about ten times its bytes, not that of the file. Not inside another compression, since its table
// of contents is at the end.
import { closeSync, fstatSync, readSync } from "node:fs";
import type { AsyncBuffer, FileMetaData, RowGroup, SchemaTree } from "hyparquet";
import { UserError } from "../../errors.js";
import { openForReading } from "../../read-file.js";
import { parseJsonRow } from "../json-values.js";
import { quoted } from "../limits.js";
import type { Row } from "../rows.js";
import { inBatches } from "./batches.js";
import type { FileFormat, FileInput } from "./format.js";
import { FORMAT_LIMITS } from "./limits.js";
import { plainLeaf, withoutNulls } from "./table-values.js";

const MAGIC = "PAR1";

export const parquet: FileFormat = {
  name: "parquet",
  endings: [".parquet", ".pq"],
  fits: (head) => Buffer.from(head.subarray(0, 4)).toString("latin1") === MAGIC,
  read: (input) => inBatches(rowsOf(input)),
};

async function* rowsOf({ path, compression }: FileInput): AsyncGenerator<[Row, number]> {
  if (compression !== undefined)
    throw new UserError(`${path}: Parquet inside ${compression} is not read (expected the file by itself). Unpack it.`);
  const library = await load();
  const file = openForReading(path);
  try {
    const buffer = bufferOf(file);
    const metadata = await reading(path, "the file", () => library.parquetMetadataAsync(buffer));
    const schema = await reading(path, "the schema", () => library.parquetSchema(metadata));
    let number = 0;
    let checked: RowGroup | undefined;
    for (const { group, rowStart, rowEnd, bytes } of pieces(metadata, path)) {
      if (group !== checked)
        await reading(path, `rows ${rowStart + 1} on`, () => library.checkGroup(buffer, schema, group));
      checked = group;
      const where = `rows ${rowStart + 1} to ${rowEnd}`;
      const values = await reading(path, where, async () => {
        const read = await library.parquetReadObjects({
          ...{ file: buffer, metadata, rowStart, rowEnd, utf8: false },
          compressors: library.compressors,
          parsers: { stringFromBytes, jsonFromBytes },
        });
        return read.map((value) => library.plainStruct(schema, value));
      });
      for (const value of values) yield [{ value, place: `${path}: row ${++number}` }, bytes / values.length];
    }
  } finally {
    closeSync(file);
  }
}

/** Parts of row groups that fit into memory, in order. */
function* pieces(
  { row_groups: groups }: FileMetaData,
  path: string,
): Generator<{ group: RowGroup; rowStart: number; rowEnd: number; bytes: number }> {
  let start = 0;
  for (const [i, group] of groups.entries()) {
    const rows = Number(group.num_rows);
    const bytes = Number(group.total_byte_size);
    if (!(rows >= 0 && bytes >= 0 && rows <= FORMAT_LIMITS.groupRows && bytes <= FORMAT_LIMITS.group)) {
      throw new UserError(
        `${path}: row group ${i + 1} has ${rows} rows in ${bytes} bytes (expected at most ${FORMAT_LIMITS.groupRows} and ` +
          `${FORMAT_LIMITS.group}). Write the file with smaller row groups.`,
      );
    }
    const count = Math.max(1, Math.ceil(bytes / FORMAT_LIMITS.piece), Math.ceil(rows / FORMAT_LIMITS.pieceRows));
    const size = Math.ceil(rows / count);
    for (let at = 0; at < rows; at += size) {
      yield { group, rowStart: start + at, rowEnd: start + Math.min(at + size, rows), bytes: bytes / count };
    }
    start += rows;
  }
}

function bufferOf(file: number): AsyncBuffer {
  const { size } = fstatSync(file);
  return {
    byteLength: size,
    slice(start, end = size) {
      if (!(start >= 0 && end >= start && end <= size)) throw new Error(`bytes ${start} to ${end} are outside of it`);
      const bytes = new Uint8Array(end - start);
      for (let at = 0; at < bytes.length; ) {
        const count = readSync(file, bytes, at, bytes.length - at, start + at);
        if (count === 0) throw new Error("it became shorter while it was read");
        at += count;
      }
      return bytes.buffer;
    },
  };
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const stringFromBytes = (bytes: Uint8Array | undefined): string | undefined => bytes && utf8.decode(bytes);
const jsonFromBytes = (bytes: Uint8Array | undefined): unknown => bytes && parseJsonRow(utf8.decode(bytes));

/** Turns anything that the library throws at a damaged file into a UserError. */
async function reading<T>(path: string, what: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    throw new UserError(
      `${path}: ${what} cannot be read as Parquet: ${quoted((failure as Error).message)}. Make or fetch the file again.`,
    );
  }
}

type Expand = (input: Uint8Array, length: number) => Uint8Array;

/** Expands to the length that the page states, not to the one in the zstd stream. */
const expandZstd =
  (expand: (input: Uint8Array, output: Uint8Array) => Uint8Array): Expand =>
  (input, length) =>
    expand(input, new Uint8Array(length));

/** Skips empty pages, which one of the library's functions does not take; throws for pages beyond the limit. */
const bounded =
  (expand: Expand): Expand =>
  (input, length) => {
    if (!(length >= 0 && length <= FORMAT_LIMITS.row)) throw new Error(`a page of ${length} bytes is too large`);
    return length === 0 ? new Uint8Array() : expand(input, length);
  };

/** The library; loaded only when a file needs it. */
async function load() {
  const [library, { isListLike, isMapLike }, expanders, { checkGroup }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet/src/schema.js"),
    import("hyparquet-compressors"),
    import("./parquet-check.js"),
  ]);
  const known = { ...expanders.compressors, ZSTD: expandZstd(expanders.decompressZstd) };
  const compressors = Object.fromEntries(Object.entries(known).map(([name, expand]) => [name, bounded(expand)]));

  const plain = (node: SchemaTree, value: unknown): unknown => {
    if (value === null || value === undefined) return null;
    const { element, children } = node;
    if (isListLike(node)) {
      const [child] = children;
      const item = child.children.length === 1 ? child.children[0] : child;
      return (value as unknown[]).map((each) => plain(item, each));
    }
    if (isMapLike(node)) {
      const item = children[0].children[1];
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(item, each)]));
    }
    if (children.length > 0) return plainStruct(node, value);
    const isFloat = element.type === "DOUBLE" || element.type === "FLOAT" || element.converted_type === "DECIMAL";
    return Array.isArray(value) ? value.map((each) => plainLeaf(each, isFloat)) : plainLeaf(value, isFloat);
  };
  const plainStruct = ({ children }: SchemaTree, value: object): Record<string, unknown> =>
    withoutNulls(
      children.map((child) => {
        const { name } = child.element;
        return [name, plain(child, (value as Record<string, unknown>)[name])] as const;
      }),
    );
  return { ...library, compressors, checkGroup, plainStruct };
}
