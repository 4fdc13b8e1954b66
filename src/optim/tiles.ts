// Work through a tensor in tiles, which bound the workspace of every optimizer. On a CPU a tile is four megabytes of
// float32: waiting threads go to sleep, and waking them costs more than a smaller tile would gain in the cache. On a
// GPU it is larger, since each call costs microseconds however little it does.
import { narrow, view } from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, numel, type Tensor } from "../torch/tensor.js";
import { isCpu } from "../torch/device.js";

// Multiples of the 256 elements that share a scale in 8-bit state.
const CPU_ELEMENTS = 1 << 20;
const GPU_ELEMENTS = 1 << 24;

/** Most elements of a tile. */
const tileElements = (tensor: Tensor): number => (isCpu(device(tensor)) ? CPU_ELEMENTS : GPU_ELEMENTS);

/** Runs `work` on consecutive ranges that cover the elements of `tensor`, each in a scope of its own. */
export function forTiles(tensor: Tensor, work: (start: number, count: number) => void): void {
  forEachTile(numel(tensor), tileElements(tensor), (start, count) => scope(() => work(start, count)));
}

/** Elements `start` to `start + count` of a contiguous tensor, as a view of one dimension. */
export const range = (tensor: Tensor, start: number, count: number): Tensor =>
  narrow(view(tensor, [-1]), 0, start, count);

/** One of the matrices that lie side by side in a tensor. */
export interface Matrix {
  index: number;
  rows: number;
  columns: number;
}

/** How many matrices lie side by side in a tensor. */
export const matricesIn = (tensor: Tensor, { rows, columns }: Omit<Matrix, "index">): number =>
  numel(tensor) / (rows * columns);

/**
 * Runs `work` on bands of whole rows of one matrix in `tensor`, with the band's first row, its number of rows, and its
 * first element.
 */
export function forBands(
  tensor: Tensor,
  { index, rows, columns }: Matrix,
  work: (row: number, count: number, start: number) => void,
): void {
  const height = Math.max(1, Math.floor(tileElements(tensor) / columns));
  forEachTile(rows, height, (row, count) => scope(() => work(row, count, (index * rows + row) * columns)));
}

/** `count` rows from element `start` as a matrix. */
export const band = (tensor: Tensor, start: number, count: number, columns: number): Tensor =>
  view(range(tensor, start, count * columns), [count, columns]);
