// Keeps the last rows of a stream apart from the others, without knowing beforehand how many rows there are.
import type { RowBatch } from "../sources/open-sources.js";

export interface HeldBack {
  /** All rows but the last `count`; may be read only once. */
  batches(): AsyncGenerator<RowBatch>;
  /** The last rows, once `batches` has ended. */
  held(): RowBatch[];
}

export function holdBack(batches: AsyncIterable<RowBatch>, count: number): HeldBack {
  const waiting: RowBatch[] = [];
  return {
    held: () => waiting,
    async *batches() {
      let rows = 0;
      for await (const batch of batches) {
        waiting.push(batch);
        rows += batch.rows.length;
        while (waiting.length > 0 && rows - waiting[0].rows.length >= count) {
          const ready = waiting.shift() as RowBatch;
          rows -= ready.rows.length;
          yield ready;
        }
      }
      const spare = rows - count;
      if (spare <= 0) return;
      const { rows: all, format } = waiting[0];
      waiting[0] = { rows: all.slice(spare), format };
      yield { rows: all.slice(0, spare), format };
    },
  };
}
