// A summary of all rows, made in one pass over their documents: how long they are, what they end with, which are equal,
// and how full packs are. Holds eight bytes per document.
import { createHash } from "node:crypto";

import type { Documents } from "../documents.js";
import { packLengths } from "../packing/pack.js";

export interface RowsSummary {
  /** Lengths that half of the documents, and 95 of 100, do not exceed. */
  median: number;
  most95: number;
  longest: number;
  /** Number of documents that equal an earlier one in all tokens and marks. */
  duplicates: number;
  /** The first of them: its place, and that of the equal one before it. */
  firstDuplicate: [place: string, like: string] | undefined;
  /**
   * Tokens that end a trained part, each with its count, the most frequent first; cut rows are not counted. If an
   * ordinary token follows a special one, as a line break does in some templates, the special one counts.
   */
  ends: [id: number, times: number][];
  /** With packing: the number of packs, and the share of their room that is filled. */
  packs: { count: number; filled: number } | undefined;
}

export function summarize(
  documents: Documents,
  isSpecial: (id: number) => boolean,
  { max_length, packing }: { max_length: number; packing: boolean },
): RowsSummary {
  const { length } = documents;
  const lengths = Int32Array.from({ length }, (_, i) => documents.lengthOf(i));
  const digests = new BigUint64Array(length);
  const ends = new Map<number, number>();
  for (let i = 0; i < length; i++) {
    const { tokens, trained } = documents.document(i);
    digests[i] = createHash("sha1").update(tokens).update(trained).digest().readBigUInt64LE();
    for (let t = 0; t < tokens.length; t++) {
      const isEnd = trained[t] === 1 && trained[t + 1] !== 1 && t + 1 < max_length;
      if (!isEnd) continue;
      const isAfterEnd = t > 0 && trained[t - 1] === 1 && isSpecial(tokens[t - 1]) && !isSpecial(tokens[t]);
      const end = tokens[isAfterEnd ? t - 1 : t];
      ends.set(end, (ends.get(end) ?? 0) + 1);
    }
  }
  const sorted = lengths.slice().sort();
  const bins = packing ? packLengths(lengths, max_length) : undefined;
  const tokens = lengths.reduce((sum, each) => sum + each, 0);
  return {
    median: sorted[Math.floor((length - 1) / 2)],
    most95: sorted[Math.ceil(0.95 * length) - 1],
    longest: sorted[length - 1],
    ...duplicatesIn(documents, digests),
    ends: [...ends].sort((a, b) => b[1] - a[1]),
    packs: bins && { count: bins.length, filled: tokens / (bins.length * max_length) },
  };
}

function duplicatesIn(
  documents: Documents,
  digests: BigUint64Array,
): Pick<RowsSummary, "duplicates" | "firstDuplicate"> {
  const sorted = digests.slice().sort();
  const repeated = new Set<bigint>();
  let duplicates = 0;
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i] !== sorted[i - 1]) continue;
    duplicates++;
    if (repeated.size < MOST_LOOKED_FOR) repeated.add(sorted[i]);
  }
  const seen = new Map<bigint, number>();
  for (const [i, digest] of digests.entries()) {
    if (!repeated.has(digest)) continue;
    const before = seen.get(digest);
    if (before !== undefined)
      return { duplicates, firstDuplicate: [documents.document(i).place, documents.document(before).place] };
    seen.set(digest, i);
  }
  return { duplicates, firstDuplicate: undefined };
}

/** Most digests, of those that occur several times, that are looked for: one example is enough. */
const MOST_LOOKED_FOR = 1000;
