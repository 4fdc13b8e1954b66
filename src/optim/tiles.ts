// Work through a tensor in tiles of a few megabytes, which stay in the cache and bound the workspace of every optimiser.
import { narrow, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";

/** A multiple of the 256 elements that share a scale in 8-bit state. */
export const TILE_ELEMENTS = 1 << 20;

/** Runs `work` on consecutive ranges that cover `elements`, each in a scope of its own. */
export function forTiles(elements: number, work: (start: number, count: number) => void): void {
  for (let start = 0; start < elements; start += TILE_ELEMENTS) {
    scope(() => work(start, Math.min(TILE_ELEMENTS, elements - start)));
  }
}

/** Elements `start` to `start + count` of a contiguous tensor, as a view of one dimension. */
export const range = (tensor: Tensor, start: number, count: number): Tensor => narrow(view(tensor, [-1]), 0, start, count);

/** One of the matrices that lie side by side in a tensor. */
export interface Matrix {
  index: number;
  rows: number;
  columns: number;
}

/** Runs `work` on bands of whole rows of one matrix: the band's first row, its rows, and where its elements start. */
export function forBands({ index, rows, columns }: Matrix, work: (row: number, count: number, start: number) => void): void {
  const height = Math.max(1, Math.floor(TILE_ELEMENTS / columns));
  for (let row = 0; row < rows; row += height) {
    scope(() => work(row, Math.min(height, rows - row), (index * rows + row) * columns));
  }
}

/** `count` rows from element `start` as a matrix. */
export const band = (tensor: Tensor, start: number, count: number, columns: number): Tensor =>
  view(range(tensor, start, count * columns), [count, columns]);
