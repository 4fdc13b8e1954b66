// Which tiles of queries attention goes through, and which keys each of them sees. A tile needs the more memory the more chunks of
// keys it sees and the larger the last one is, and leaves nothing behind: an engine that only counts is given the largest alone.
import { isCpu } from "../../torch/device.js";
import { leavesOut } from "../../torch/repeat.js";

export interface Limits {
  /** Scores of one chunk. In the backward pass there are two such tensors. */
  scores: number;
  /** More rows than this do not make products faster, and waste more on keys that are masked. */
  rows: number;
  /** Keys of a chunk; no fewer than rows, so that every query sees some of the first. */
  keys: number;
}

// On a processor a chunk's scores should stay in its caches; elsewhere products should be large.
export const limitsOn = (on: string): Limits =>
  isCpu(on) ? { scores: 2 ** 18, rows: 256, keys: 512 } : { scores: 2 ** 26, rows: 1024, keys: 16_384 };

/** Queries [row, row + rows) of key heads [group, group + groups), and the keys [key, key + keys) that they see. */
export interface Tile {
  row: number;
  rows: number;
  key: number;
  keys: number;
  group: number;
  groups: number;
}

export interface Heads {
  /** Keys before the first query. */
  cached: number;
  window: number | null;
  /** Key heads, and the query heads that share one. */
  groups: number;
  shared: number;
}

/** Tiles of the documents of these lengths, in order. */
export function tilesOf(segments: number[], heads: Heads, limits: Limits): Tile[] {
  if (!leavesOut()) return [...everyTile(segments, heads, limits, () => 0)];
  const lengths = [...new Set(segments)];
  return largestOf([...everyTile(lengths, heads, limits, wholePeriods)], heads, limits);
}

/** `skip` says how many tokens to pass over, from a place in a document where a tile begins that has so many rows. */
function* everyTile(segments: number[], heads: Heads, limits: Limits, skip: typeof wholePeriods): Generator<Tile> {
  const { cached, window, groups, shared } = heads;
  let start = 0;
  for (const length of segments) {
    // Half of a tile's last scores are masked: a short document is worth more tiles.
    const most = Math.min(limits.rows, Math.max(64, Math.ceil(length / 4)));
    for (let done = 0, rows: number; done < length; done += rows) {
      const first = window === null ? 0 : Math.max(0, cached + done + 1 - window);
      const reach = Math.min(cached + length, cached + done + most, first + limits.keys) - first;
      rows = Math.min(length - done, most, Math.max(1, Math.floor(limits.scores / (shared * reach))));
      const passed = skip({ done, rows, length, most }, heads, limits);
      if (passed > 0) {
        // What comes then begins like this one.
        done += passed - rows;
        continue;
      }
      const keys = cached + done + rows - first;
      const together = Math.min(
        groups,
        Math.max(1, Math.floor(limits.scores / (shared * rows * Math.min(keys, limits.keys)))),
      );
      for (let group = 0; group < groups; group += together) {
        yield { row: start + done, rows, key: start + first, keys, group, groups: Math.min(together, groups - group) };
      }
    }
    start += length;
  }
}

/**
 * Where tiles have come to be of as many rows each, the same chunks come again after a period, with more of them before (in front of a window:
 * as many). All periods but the last can be passed over: its tiles need at least as much.
 */
function wholePeriods(
  { done, rows, length, most }: { done: number; rows: number; length: number; most: number },
  { cached, window }: Heads,
  limits: Limits,
): number {
  const slides = window === null ? length : Math.max(0, window - cached);
  const isBefore = done < slides;
  const [from, end] = isBefore ? [limits.keys, Math.min(length, slides)] : [slides, length];
  if (done < from) return 0;
  const period = (rows * limits.keys) / greatestDivisor(rows, limits.keys);
  return Math.max(0, Math.floor((end - done - most - limits.keys) / period) - 1) * period;
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}

/** Those of the tiles of as many rows and heads, with masks in the same chunks, that no other one exceeds in chunks and in keys of the last. */
function largestOf(tiles: Tile[], { window }: Heads, limits: Limits): Tile[] {
  const found = new Map<string, { tile: Tile; chunks: number; last: number }[]>();
  for (const tile of tiles.reverse()) {
    const { rows, keys, groups } = tile;
    const chunks = Math.ceil(keys / limits.keys);
    const last = keys - (chunks - 1) * limits.keys;
    const kind = [rows, groups, last < rows - 1, window !== null && keys > window].join();
    const others = found.get(kind) ?? [];
    if (others.some((other) => other.chunks >= chunks && other.last >= last)) continue;
    found.set(kind, [...others, { tile, chunks, last }]);
  }
  return [...found.values()].flat().map(({ tile }) => tile);
}
