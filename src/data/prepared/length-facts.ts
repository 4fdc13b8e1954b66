// How long rows are before they are cut, and what each max_length would cost, as sums that threads can add up. Lengths
// are in classes by powers of two: class k holds lengths above 2^(k-1) up to 2^k.
import type { Document } from "../documents.js";

export interface LengthFacts {
  longest: number;
  /** Number of rows in each class. */
  rows: number[];
  /**
   * At index k, with max_length 2^k: tokens that are cut off, trained ones among them, and rows that lose all trained
   * tokens.
   */
  lost: number[];
  trainedLost: number[];
  emptied: number[];
}

export const NO_LENGTHS: LengthFacts = { longest: 0, rows: [], lost: [], trainedLost: [], emptied: [] };

export const addLengths = (a: LengthFacts, b: LengthFacts): LengthFacts => ({
  longest: Math.max(a.longest, b.longest),
  rows: sums(a.rows, b.rows),
  lost: sums(a.lost, b.lost),
  trainedLost: sums(a.trainedLost, b.trainedLost),
  emptied: sums(a.emptied, b.emptied),
});

const sums = (a: number[], b: number[]): number[] =>
  Array.from({ length: Math.max(a.length, b.length) }, (_, k) => (a[k] ?? 0) + (b[k] ?? 0));

/** Adds a row to `facts`. `isCut`: the excess is lost, not trained as further documents. */
export function countLength(facts: LengthFacts, { tokens, trained }: Document, isCut: boolean): void {
  const { length } = tokens;
  facts.longest = Math.max(facts.longest, length);
  const own = Math.ceil(Math.log2(Math.max(1, length)));
  add(facts.rows, own, 1);
  if (!isCut) return;
  let behind = 0;
  let all = 0;
  for (const flag of trained) all += flag;
  for (let k = own - 1, end = length; k >= 0; k--) {
    const most = 2 ** k;
    for (let i = most; i < end; i++) behind += trained[i];
    end = most;
    add(facts.lost, k, length - most);
    add(facts.trainedLost, k, behind);
    if (all > 0 && behind === all) add(facts.emptied, k, 1);
  }
}

function add(sums: number[], k: number, count: number): void {
  while (sums.length <= k) sums.push(0);
  sums[k] += count;
}
