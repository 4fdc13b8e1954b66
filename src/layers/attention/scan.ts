// A function of rows of tokens and of a state that goes on from row to row, in tiles of tokens. It keeps the state
// before each tile, the rows and the output; the backward pass visits tiles in reverse and computes each again. At a
// document's start the state is zero. The caller gives the work on a tile: forward and backward, or operators that have
// gradients (`differentiated`).
import { backward, leaf, takeGrad, withGrad } from "../../torch/autograd.js";
import { customFunction, isRecorded, ownInput } from "../../torch/graph.js";
import { add_, copy_, fill_, narrow, select } from "../../torch/ops.js";
import { repeat } from "../../torch/repeat.js";
import { free, scope } from "../../torch/scope.js";
import { device, dtype, type DType, empty, shape, type Tensor, zeros } from "../../torch/tensor.js";
import { runsOf } from "./fused.js";

export interface Scan {
  /** Tensors with a row for each token. */
  rows: Tensor[];
  /** Tensors that every tile uses; their gradients are summed over tiles. */
  weights: Tensor[];
  /** The state before the first token; changed in place to the state after the last. */
  state: Tensor[];
  /** Document lengths in order. */
  segments: number[];
  tileTokens: number;
  /** Width of the output's rows. */
  width: number;
  type: DType;
}

/** What the work on a tile gets: its rows, the weights, and the state before it. */
export interface TileInput {
  rows: Tensor[];
  weights: Tensor[];
  state: Tensor[];
}

/**
 * Gradients of a tile. Work reads that of the output, writes those of rows, adds to those of weights, and replaces that
 * of the state.
 */
export interface TileGradients {
  dOut_TN: Tensor;
  dRows: Tensor[];
  dWeights: Tensor[];
  dState: Tensor[];
}

export interface TileWork {
  /** Writes the output, and changes the state to the state after the tile. */
  forward(input: TileInput, out_TN: Tensor): void;
  /**
   * Writes and adds gradients, and turns `dState` from that of the state after the tile into that of `state`; leaves
   * `state` as it is.
   */
  backward(input: TileInput, gradients: TileGradients): void;
}

/** A tile's function in operators that have gradients; it changes none of its inputs. */
export type Operators = (input: TileInput) => { out_TN: Tensor; state: Tensor[] };

interface Tile {
  row: number;
  rows: number;
  isFirst: boolean;
  isLast: boolean;
  /** Its number among the tiles that are not first in their document. */
  further: number;
}

/** Returns the output's rows, [T, width]. */
export function scan({ rows, state, segments, tileTokens, width, type, ...given }: Scan, work: TileWork): Tensor {
  const weights = isRecorded() ? scope(() => given.weights.map(ownInput)) : given.weights;
  const [tokens, on] = [shape(rows[0])[0], device(rows[0])];
  const furtherTiles = segments.reduce((count, length) => count + Math.ceil(length / tileTokens) - 1, 0);
  const rowsOf = (t: Tensor, { row, rows }: Tile): Tensor => narrow(t, 0, row, rows);

  const forward = (): { output: Tensor; saved: Tensor[] } => {
    const out_TN = empty([tokens, width], type, on);
    const saved = isRecorded() ? state.map((t) => empty([furtherTiles, ...shape(t)], dtype(t), on)) : [];
    forEachTileOf(segments, tileTokens, "forward", (tile) =>
      scope(() => {
        if (tile.isFirst && tile.row > 0) for (const t of state) fill_(t, 0);
        if (!tile.isFirst) for (const [i, kept] of saved.entries()) copy_(select(kept, 0, tile.further), state[i]);
        work.forward({ rows: rows.map((t) => rowsOf(t, tile)), weights, state }, rowsOf(out_TN, tile));
      }),
    );
    return { output: out_TN, saved };
  };
  const gradient = (dOut_TN: Tensor, out_TN: Tensor, saved: Tensor[]): Tensor[] => {
    free(out_TN);
    const dRows = rows.map((t) => empty(shape(t), dtype(t), on));
    const dWeights = weights.map((t) => zeros(shape(t), dtype(t), on));
    const dState = saved.map((t) => zeros(shape(t).slice(1), dtype(t), on));
    forEachTileOf(segments, tileTokens, "backward", (tile) =>
      scope(() => {
        if (tile.isLast) for (const t of dState) fill_(t, 0);
        const before = saved.map((kept, i) =>
          tile.isFirst ? zeros(shape(dState[i]), dtype(kept), on) : select(kept, 0, tile.further),
        );
        work.backward(
          { rows: rows.map((t) => rowsOf(t, tile)), weights, state: before },
          { dOut_TN: rowsOf(dOut_TN, tile), dRows: dRows.map((t) => rowsOf(t, tile)), dWeights, dState },
        );
      }),
    );
    return [...dRows, ...dWeights];
  };
  return customFunction([...rows, ...weights], forward, gradient);
}

/** Work made of operators: the backward pass records and differentiates them. */
export const differentiated = (operators: Operators): TileWork => ({
  forward: (input, out_TN) => {
    const made = operators(input);
    copy_(out_TN, made.out_TN);
    for (const [i, after] of made.state.entries()) copy_(input.state[i], after);
  },
  backward: (input, { dOut_TN, dRows, dWeights, dState }) => {
    const leaves = (tensors: Tensor[]): Tensor[] => tensors.map((t) => leaf(t));
    const [state, rows, weights] = [input.state, input.rows, input.weights].map(leaves);
    const made = scope(() => withGrad(() => operators({ rows, weights, state })));
    scope(() => backward([made.out_TN, ...made.state], [dOut_TN, ...dState]));
    for (const [i, t] of rows.entries()) moveGrad(t, dRows[i]);
    for (const [i, t] of weights.entries()) add_(dWeights[i], takeGrad(t) as Tensor);
    for (const [i, t] of state.entries()) moveGrad(t, dState[i]);
  },
});

/**
 * Moves a gradient; writes zeros if the operators did not use the tensor, as with rows that only the other input needs.
 */
function moveGrad(from: Tensor, to: Tensor): void {
  const gradient = takeGrad(from);
  if (gradient === null) fill_(to, 0);
  else copy_(to, gradient);
}

/** Calls `work` for the tiles of all documents, in order or in reverse. */
function forEachTileOf(
  segments: number[],
  tileTokens: number,
  order: "forward" | "backward",
  work: (tile: Tile) => void,
): void {
  const inOrder = <Item>(items: Item[]): Item[] => (order === "forward" ? items : items.toReversed());
  const place = (i: number, count: number): number => (order === "forward" ? i : count - 1 - i);
  let further = 0;
  const runs = runsOf(segments).map(({ start, length, count }) => {
    const tiles = Math.ceil(length / tileTokens);
    const before = further;
    further += count * (tiles - 1);
    return { start, length, count, tiles, before };
  });
  for (const { start, length, count, tiles, before } of inOrder(runs)) {
    repeat(count, (i) => {
      const document = place(i, count);
      repeat(tiles, (j) => {
        const tile = place(j, tiles);
        work({
          row: start + document * length + tile * tileTokens,
          rows: Math.min(tileTokens, length - tile * tileTokens),
          isFirst: tile === 0,
          isLast: tile === tiles - 1,
          further: before + document * (tiles - 1) + tile - 1,
        });
      });
    });
  }
}
