// Rows to documents, in the order of the rows: on this thread for the first moment, then on several threads. The
// threads' room bounds what is read but not yet taken.
import type { RowBatch } from "../sources/open-sources.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type EncodedRows, rowEncoder } from "./encode-rows.js";
import { type Work, Workers } from "./workers.js";

export interface EncodeOptions extends Work {
  tokenizer: Tokenizer;
  /** Milliseconds after which threads are started; starting them takes a second of each processor. */
  aloneMs?: number;
  threads?: number;
}

const ALONE_MS = 1000;
const ROWS_AT_ONCE = 64;

/** Errors: those of the first row that has one, after all documents before it. */
export async function* encodedInOrder(
  batches: AsyncIterable<RowBatch>,
  { tokenizer, aloneMs = ALONE_MS, threads, ...work }: EncodeOptions,
): AsyncGenerator<EncodedRows & { alone: boolean }> {
  const started = performance.now();
  const asked: Promise<EncodedRows>[] = [];
  const encode = rowEncoder(tokenizer, work.settings);
  let workers: Workers | undefined;
  const take = async () => ({ ...(await (asked.shift() as Promise<EncodedRows>)), alone: false });
  try {
    let unread: { failure: unknown } | undefined;
    const chunks = portions(batches);
    for (;;) {
      let next: IteratorResult<RowBatch, void>;
      try {
        next = await chunks.next();
      } catch (failure) {
        // Rows before the one that cannot be read come first.
        unread = { failure };
        break;
      }
      if (next.done) break;
      const { rows, format } = next.value;
      if (!workers && performance.now() - started < aloneMs) {
        yield { ...encode(rows, format), alone: true };
        continue;
      }
      workers ??= new Workers(work, threads);
      while (asked.length >= workers.room) yield await take();
      const answer = workers.encode(rows, format);
      answer.catch(() => {}); // its turn comes
      asked.push(answer);
    }
    while (asked.length > 0) yield await take();
    if (unread) throw unread.failure;
  } finally {
    await workers?.close();
  }
}

async function* portions(batches: AsyncIterable<RowBatch>): AsyncGenerator<RowBatch, void> {
  for await (const { rows, format } of batches) {
    for (let start = 0; start < rows.length; start += ROWS_AT_ONCE)
      yield { rows: rows.slice(start, start + ROWS_AT_ONCE), format };
  }
}
