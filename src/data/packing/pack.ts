// Packs documents of many lengths into few bins: best-fit decreasing. The longest goes first; each goes into the bin
// with the least room that still takes it, else into a new bin. Bins are in stacks by their free room, and a tree over
// the rooms finds the next non-empty stack. So a document costs log(capacity), however many bins there are.
import { assert } from "../../errors.js";

/** Bins of document indices, in two flat arrays, since there may be millions. */
export interface Bins {
  readonly length: number;
  /** The indices in a bin; the caller must not change them. */
  of(bin: number): Int32Array;
}

/** Each document in a bin of its own. */
export const singly = (length: number): Bins => ({ length, of: (bin) => Int32Array.of(bin) });

/**
 * Bins of document indices; no bin exceeds `capacity`, each index occurs once. The same lengths always give the same
 * bins; in the worst case there are about 11/9 times as many as possible at least (Johnson 1973).
 */
export function packLengths(lengths: ArrayLike<number>, capacity: number): Bins {
  const binOf = new Int32Array(lengths.length);
  const rooms = new Rooms(capacity);
  const order = longestFirst(lengths, capacity);
  let count = 0;
  for (const index of order) {
    const length = lengths[index];
    const room = rooms.leastOf(length);
    const bin = room === -1 ? count++ : rooms.take(room);
    binOf[index] = bin;
    rooms.put(bin, (room === -1 ? capacity : room) - length);
  }
  return grouped(order, binOf, count);
}

/** A counting sort by bin, which keeps `order` within each bin. */
function grouped(order: Int32Array, binOf: Int32Array, length: number): Bins {
  const ends = new Int32Array(length + 1);
  for (const bin of binOf) ends[bin + 1]++;
  for (let bin = 1; bin <= length; bin++) ends[bin] += ends[bin - 1];
  const members = new Int32Array(order.length);
  const next = ends.slice();
  for (const index of order) members[next[binOf[index]]++] = index;
  return { length, of: (bin) => members.subarray(ends[bin], ends[bin + 1]) };
}

/** Indices by falling length, equal lengths in order: a counting sort, since lengths are small whole numbers. */
function longestFirst(lengths: ArrayLike<number>, capacity: number): Int32Array {
  const starts = new Int32Array(capacity + 2);
  for (let i = 0; i < lengths.length; i++) {
    const length = lengths[i];
    assert(
      Number.isInteger(length) && length > 0 && length <= capacity,
      `document ${i} of length ${length} for bins of ${capacity}`,
    );
    starts[capacity - length + 1]++;
  }
  for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1];
  const order = new Int32Array(lengths.length);
  for (let i = 0; i < lengths.length; i++) order[starts[capacity - lengths[i]]++] = i;
  return order;
}

/** Bins by free room. Full bins are forgotten. */
class Rooms {
  private readonly stacks: (number[] | undefined)[];
  /** A binary tree in an array, with leaves from `leaves` on: 1 where some stack below is not empty. */
  private readonly filled: Uint8Array;
  private readonly leaves: number;

  constructor(capacity: number) {
    this.leaves = 2 ** Math.ceil(Math.log2(capacity + 1));
    this.filled = new Uint8Array(2 * this.leaves);
    this.stacks = new Array<number[] | undefined>(capacity + 1);
  }

  /** The least room, at least `length`, that some bin has; else -1. */
  leastOf(length: number): number {
    let node = this.leaves + length;
    while (this.filled[node] === 0) {
      while (node & 1) node >>= 1;
      if (node === 0) return -1;
      node++;
    }
    while (node < this.leaves) node = this.filled[2 * node] ? 2 * node : 2 * node + 1;
    return node - this.leaves;
  }

  take(room: number): number {
    const stack = this.stacks[room] as number[];
    const bin = stack.pop() as number;
    if (stack.length === 0) this.mark(room, 0);
    return bin;
  }

  put(bin: number, room: number): void {
    if (room === 0) return;
    this.stacks[room] ??= [];
    const stack = this.stacks[room];
    stack.push(bin);
    if (stack.length === 1) this.mark(room, 1);
  }

  private mark(room: number, filled: 0 | 1): void {
    let node = this.leaves + room;
    this.filled[node] = filled;
    for (node >>= 1; node > 0; node >>= 1) this.filled[node] = this.filled[2 * node] | this.filled[2 * node + 1];
  }
}
