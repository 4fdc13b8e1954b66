// Rows of several streams as one. Without weights, streams follow each other. With weights, each row is drawn from a
// stream with its share as the probability, the same for one seed on every machine, until a stream is drawn that has
// ended. So no row is taken twice, and the shares hold for all rows taken.
import { seededGenerator } from "../shuffle.js";

/** The number of this use of a seed, different from its other streams. */
const STREAM = 0x6d6978;

export interface Weighted<T> {
  weight: number | undefined;
  items: AsyncIterable<T[]>;
}

/** Whether the order of rows is random. */
export const isMixed = (streams: readonly { weight?: number | undefined }[]): boolean =>
  streams.length > 1 && streams.every(({ weight }) => weight !== undefined);

/** Batches, each with the number of its stream, which keeps its order. Closes all streams at the end. */
export async function* mixed<T>(streams: readonly Weighted<T>[], seed: number): AsyncGenerator<[T[], number]> {
  if (!isMixed(streams)) {
    for (const [i, { items }] of streams.entries()) for await (const batch of items) yield [batch, i];
    return;
  }
  const next = seededGenerator(seed, STREAM);
  const readers = streams.map(({ items }) => new OneByOne(items));
  const total = streams.reduce((sum, { weight }) => sum + (weight as number), 0);
  let held: T[] = [];
  let from = 0;
  try {
    for (;;) {
      const drawn = draw((next() / 2 ** 32) * total, streams);
      const item = await readers[drawn].next();
      if (held.length > 0 && (drawn !== from || item === undefined)) {
        yield [held, from];
        held = [];
      }
      if (item === undefined) return;
      from = drawn;
      held.push(item);
    }
  } finally {
    for (const reader of readers) await reader.close();
  }
}

function draw(at: number, streams: readonly { weight: number | undefined }[]): number {
  let left = at;
  for (const [i, { weight }] of streams.entries()) if ((left -= weight as number) < 0) return i;
  return streams.length - 1;
}

class OneByOne<T> {
  readonly #batches: AsyncIterator<T[]>;
  #batch: T[] = [];
  #at = 0;

  constructor(items: AsyncIterable<T[]>) {
    this.#batches = items[Symbol.asyncIterator]();
  }

  async next(): Promise<T | undefined> {
    if (this.#at === this.#batch.length) {
      const { value, done } = await this.#batches.next();
      if (done) return undefined;
      this.#batch = value;
      this.#at = 0;
    }
    return this.#batch[this.#at++];
  }

  async close(): Promise<void> {
    await this.#batches.return?.();
  }
}

/** The first `count` items of a stream, which is then closed. */
export async function* firstOf<T>(batches: AsyncIterable<T[]>, count: number): AsyncGenerator<T[]> {
  let left = count;
  for await (const batch of batches) {
    if (batch.length >= left) {
      yield batch.slice(0, left);
      return;
    }
    left -= batch.length;
    yield batch;
  }
}
