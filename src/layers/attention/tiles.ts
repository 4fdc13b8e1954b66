// Which tiles of queries attention passes, and which keys each of them sees. A tile needs more memory if it sees more
// chunks of keys or a larger last chunk, and leaves nothing behind. So an engine that only counts is given only the
// largest tiles.
import { isCpu } from "../../torch/device.js";
import { leavesOut } from "../../torch/repeat.js";

export interface Limits {
  /** Most scores of a chunk. The backward pass has two such tensors. */
  scores: number;
  /** Most rows of a tile. More would not make products faster, and would waste more on masked keys. */
  rows: number;
  /** Most keys of a chunk; not fewer than rows, so that every query sees some of the first chunk's. */
  keys: number;
}

// On a CPU a chunk's scores should fit its caches; on a GPU products should be large.
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
  /** Number of keys before the first query. */
  cached: number;
  window: number | null;
  /** Number of key heads, and of query heads that share one. */
  groups: number;
  shared: number;
}

/** Tiles of documents of these lengths, in order; on an engine that only counts, the largest tiles. */
export function tilesOf(segments: number[], heads: Heads, limits: Limits): Tile[] {
  if (!leavesOut()) return [...everyTile(segments, heads, limits, () => 0)];
  const lengths = [...new Set(segments)];
  return largestOf([...everyTile(lengths, heads, limits, wholePeriods)], heads, limits);
}

/**
 * Yields tiles. `skip` returns how many tokens to pass over, given the place in a document and the rows of the tile
 * that begins there.
 */
function* everyTile(segments: number[], heads: Heads, limits: Limits, skip: typeof wholePeriods): Generator<Tile> {
  const { cached, window, groups, shared } = heads;
  let start = 0;
  for (const length of segments) {
    // Half of the scores in a tile's last chunk are masked, so a short document gets several tiles.
    const most = Math.min(limits.rows, Math.max(64, Math.ceil(length / 4)));
    for (let done = 0, rows: number; done < length; done += rows) {
      const first = window === null ? 0 : Math.max(0, cached + done + 1 - window);
      const reach = Math.min(cached + length, cached + done + most, first + limits.keys) - first;
      rows = Math.min(length - done, most, Math.max(1, Math.floor(limits.scores / (shared * reach))));
      const passed = skip({ done, rows, length, most }, heads, limits);
      if (passed > 0) {
        // The tiles behind what is skipped begin like this one.
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
 * Once all tiles have the same number of rows, chunks repeat after a period, only with more of them before (behind the
 * window's length: with as many). All periods but the last can be skipped, since its tiles need at least as much
 * memory.
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

/**
 * Among tiles with equal rows, heads and masked chunks, those that no other exceeds both in chunks and in keys of the
 * last chunk.
 */
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
