// Checks what a Parquet file says of itself before the library believes it. Its columns must be those of the schema, so
// that no read begins that nobody awaits. Its pages must not have more values than they and their rows can hold, so
// that a few damaged bytes do not fill the memory or take a day.
import type { AsyncBuffer, ColumnMetaData, RowGroup, SchemaTree } from "hyparquet";
import { getPhysicalColumns } from "hyparquet/src/schema.js";
import { deserializeTCompactProtocol } from "hyparquet/src/thrift.js";

/** Most values that a byte may hold (bits), and that a row may hold (lists of equal items). */
const PER_BYTE = 16;
const PER_ROW = 4;
const SPARE = 1_000_000;

/** Errors: an Error of any kind whose message says what is wrong; the caller names the file. */
export async function checkGroup(file: AsyncBuffer, schema: SchemaTree, group: RowGroup): Promise<void> {
  const columns = group.columns.map(({ meta_data: data }) => {
    if (data === undefined) throw new Error("a column without a description");
    return data;
  });
  const names = (all: string[]): string => all.sort().join("\n");
  const known = getPhysicalColumns(schema);
  if (
    new Set(known).size < known.length ||
    names(columns.map(({ path_in_schema: path }) => path.join("."))) !== names(known)
  )
    throw new Error("its columns are not those of its schema");
  for (const column of columns) await checkPages(file, column, Number(group.num_rows));
}

async function checkPages(file: AsyncBuffer, column: ColumnMetaData, rows: number): Promise<void> {
  const { dictionary_page_offset: dictionary, data_page_offset: data, total_compressed_size: size } = column;
  const start = Number(dictionary !== undefined && dictionary > 0n && dictionary < data ? dictionary : data);
  const view = new DataView(await file.slice(start, start + Number(size)));
  let values = 0;
  for (const reader = { view, offset: 0 }; reader.offset < view.byteLength; ) {
    const header = deserializeTCompactProtocol(reader) as Record<string, Record<string, number> | number | undefined>;
    const bytes = Number(header.field_2);
    const compressed = Number(header.field_3);
    if (!(bytes >= 0 && compressed >= 0)) throw new Error("a page of no size");
    reader.offset += compressed;
    for (const kind of [header.field_5, header.field_7, header.field_8]) {
      if (kind === undefined) continue;
      const count = Number((kind as Record<string, number>).field_1);
      values += count;
      if (!(count >= 0 && count <= SPARE + PER_BYTE * bytes + PER_ROW * rows && values <= MOST_VALUES))
        throw new Error(`a page of ${count} values in ${bytes} bytes`);
    }
  }
}

/** Most values of a column in a row group. */
const MOST_VALUES = 2 ** 27;
