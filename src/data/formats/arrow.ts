// Arrow: the stream format in which `datasets` keeps its sets, and the file format, also known as Feather 2. Read by
// record batches. Limit: buffers compressed by lz4 are refused.
import type { Codec } from "apache-arrow/ipc/compression/registry";
import type { DataType, Vector } from "apache-arrow";
import type { ByteBuffer } from "flatbuffers";
import { UserError } from "../../errors.js";
import { quoted } from "../limits.js";
import type { Row } from "../rows.js";
import { inBatches } from "./batches.js";
import type { FileFormat, FileInput } from "./format.js";
import { plainLeaf, withoutNulls } from "./table-values.js";

const MAGIC = "ARROW1";
const MAGIC_BYTES = 8;
const WORD = 8;
/** Items allowed beside the bytes of a list, for lists whose items take no room, such as nulls. */
const SPARE_ITEMS = 100_000;
const CONTINUATION = 0xffffffff;

export const arrow: FileFormat = {
  name: "arrow",
  endings: [".arrow", ".feather", ".ipc"],
  fits: (head) => isFile(head) || (head.length > 8 && Buffer.from(head).readUInt32LE(0) === CONTINUATION),
  read: (input) => inBatches(rowsOf(input)),
};

const isFile = (head: Uint8Array): boolean => Buffer.from(head.subarray(0, 6)).toString("latin1") === MAGIC;

async function* rowsOf({ path, bytes }: FileInput): AsyncGenerator<[Row, number]> {
  const library = await load();
  let number = 0;
  try {
    const reader = await library.RecordBatchReader.from(inWords(bytes()));
    await reader.open();
    if ((reader.schema as unknown) === undefined) throw new Error("it has no schema");
    for await (const batch of reader) {
      const names = batch.schema.fields.map(({ name }) => name);
      const columns = batch.schema.fields.map((_, i) => batch.getChildAt(i) as Vector);
      const each = batch.data.byteLength / Math.max(1, batch.numRows);
      library.allow(SPARE_ITEMS + batch.data.byteLength * 8);
      for (let i = 0; i < batch.numRows; i++) {
        const cells = columns.map((column, k) => [names[k], library.plain(column.type, column.get(i))] as const);
        yield [{ value: withoutNulls(cells), place: `${path}: row ${++number}` }, each];
      }
    }
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    throw new UserError(
      `${path}: row ${number + 1} cannot be read as Arrow: ${quoted((failure as Error).message)}. Make or fetch the file again; buffers ` +
        "compressed by lz4 are not read.",
    );
  }
}

/**
 * The stream inside a file of either format; the file format has a magic word before it and a table of contents behind
 * it. Chunks are whole words, since the library reads numbers in place, and the machine needs them at multiples of 8.
 */
async function* inWords(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let left = new Uint8Array();
  let isFirst = true;
  for await (const chunk of bytes) {
    const all = new Uint8Array(left.length + chunk.length);
    all.set(left);
    all.set(chunk, left.length);
    const start = isFirst && isFile(all) ? MAGIC_BYTES : 0;
    const end = start + Math.floor((all.length - start) / WORD) * WORD;
    if (end > start) yield all.slice(start, end);
    left = all.slice(end);
    isFirst = false;
  }
  if (left.length > 0) yield left;
}

let checked = false;

/** Refuses a vector that a damaged file says has billions of entries; the library would walk through it for minutes. */
function checkVectors(buffers: ByteBuffer): void {
  if (checked) return;
  checked = true;
  const stated = buffers.__vector_len;
  buffers.__vector_len = function (this: ByteBuffer, offset: number): number {
    const length = stated.call(this, offset);
    if (length >= 0 && length <= this.capacity()) return length;
    throw new Error(`a list of ${length} entries in a message of ${this.capacity()} bytes`);
  };
}

/** The library; loaded only when a file needs it. */
async function load() {
  const [{ DataType: is, RecordBatchReader, CompressionType, compressionRegistry }, { decompress }, { ByteBuffer }] =
    await Promise.all([import("apache-arrow"), import("fzstd"), import("flatbuffers")]);
  checkVectors(ByteBuffer.prototype);
  const codec: Codec = { decode: (data) => decompress(data).slice() };
  compressionRegistry.set(CompressionType.ZSTD, codec);

  let itemsLeft = 0;
  const plain = (type: DataType, value: unknown): unknown => {
    if (value === null || value === undefined) return null;
    if (is.isDictionary(type)) return plain(type.dictionary, value);
    if (is.isList(type) || is.isFixedSizeList(type) || is.isLargeList(type)) {
      const items = type.children[0].type;
      itemsLeft -= (value as Vector).length;
      if (itemsLeft < 0) throw new Error("its lists have more items than it has bits");
      return Array.from(value as Vector, (item) => plain(items, item));
    }
    if (is.isStruct(type)) {
      const fields = (value as { toJSON(): Record<string, unknown> }).toJSON();
      return withoutNulls(type.children.map(({ name, type: of }) => [name, plain(of, fields[name])] as const));
    }
    if (is.isMap(type)) {
      const items = type.valueType;
      const entries = (value as { toJSON(): Record<string, unknown> }).toJSON();
      return Object.fromEntries(Object.entries(entries).map(([key, item]) => [key, plain(items, item)]));
    }
    if (is.isTimestamp(type) || is.isDate(type)) return plainLeaf(new Date(value as number), false);
    if (is.isDecimal(type)) return plainLeaf(Number(`${String(value)}e-${type.scale}`), true);
    return plainLeaf(value, is.isFloat(type));
  };
  /** Sets how many list items the next rows may have, since damaged offsets make lists of billions. */
  const allow = (items: number): void => void (itemsLeft = items);
  return { RecordBatchReader, plain, allow };
}
