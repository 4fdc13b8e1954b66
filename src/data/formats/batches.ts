// Collects rows into batches. A batch is small enough that several can wait in memory, and large enough that passing it
// on costs nothing.
import type { Row } from "../rows.js";

const ROWS_AT_ONCE = 512;
/** Bytes of the file that a batch's rows were read from, at most about this many. */
const BYTES_AT_ONCE = 1 << 22;

/** Each row comes with its number of bytes in the file, as far as known. */
export async function* inBatches(
  rows: AsyncIterable<[row: Row, bytes: number]> | Iterable<[row: Row, bytes: number]>,
): AsyncGenerator<Row[]> {
  let batch: Row[] = [];
  let size = 0;
  for await (const [row, bytes] of rows) {
    batch.push(row);
    size += bytes;
    if (batch.length < ROWS_AT_ONCE && size < BYTES_AT_ONCE) continue;
    yield batch;
    batch = [];
    size = 0;
  }
  if (batch.length > 0) yield batch;
}
