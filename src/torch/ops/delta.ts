// All that a layer with a gated delta rule does to a tile of tokens between its projections
// (native/operators/gated_delta.cpp). The caller makes the float32 workspace of `deltaFloats` elements.
import { isCpu } from "../device-name.js";
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

export interface DeltaSizes {
  keyHeads: number;
  /** Number of value heads that share a key head. */
  shared: number;
  keyWidth: number;
  valueWidth: number;
  /** Width of the convolution. */
  taps: number;
  /** Number of tokens in a chunk. */
  chunk: number;
}

export const sizesOf = ({ keyHeads, shared, keyWidth, valueWidth, taps, chunk }: DeltaSizes): number[] => [
  ...[keyHeads, shared, keyWidth, valueWidth, taps, chunk],
];

/** Number of floats of workspace for `tokens`; the operators refuse any other size. */
export function deltaFloats(sizes: DeltaSizes, tokens: number, on: string, way: "forward" | "backward"): number {
  const { keyHeads: K, shared, keyWidth: C, valueWidth: V, taps } = sizes;
  const [H, W] = [K * shared, shared * V];
  const N = Math.min(sizes.chunk, tokens);
  const chunks = Math.ceil(tokens / N);
  const G = way === "backward" || !isCpu(on) ? chunks : 1;
  const kept = [
    G * K * 2 * N * C,
    G * K * N * W,
    G * K * 2 * N * N,
    ...[G * H * N * N, G * H * N * N],
    G * K * 2 * N * W,
    ...[G * H * N * V, G * K * N * W, G * H * N * V],
    ...[G * H * N, G * H * N, G * H * N, G * H * N],
    G * K * 2 * N,
  ];
  const back = [
    ...[(G - 1) * K * C * W, G * K * 2 * N * C],
    ...[H * N * V, H * N * V, H * N * N, H * N * N, K * 2 * N * N, K * N * W],
    ...[H * N, H * N, H * N],
    ...[H * V, H * V, (taps - 1) * K * (2 * C + W)],
  ];
  return (way === "forward" ? kept : [...kept, ...back]).reduce((all, part) => all + 128 * Math.ceil(part / 128), 0);
}

/**
 * Computes the output [T, H V] of rows of the same dtype, float32 or bfloat16. `places` has three numbers for each of
 * queries, keys, values, gates, rates and decays: which of `rows`, the first column, and the distance between key
 * heads. `weights` are the convolution [taps, channels], two of decays [H], and the norm [V]. `state` is the rows
 * before the first [taps - 1, channels] and the state [K, C, shared V]; both become those after the last row. All
 * float32.
 */
export const gatedDelta_ = op<
  (
    ...args: [
      out: T,
      rows: T[],
      weights: T[],
      state: T[],
      work: T,
      places: readonly N[],
      sizes: readonly N[],
      epsilon: N,
    ]
  ) => void
>(
  "revmoe::gated_delta_(Tensor(a!) out, Tensor[] rows, Tensor[] weights, Tensor(b!)[] state, Tensor(c!) work, int[] places, int[] sizes, float epsilon) -> ()",
  nothing,
);
/**
 * Backward: writes the columns of `dRows` that have a place, adds to `dWeights`, and turns `dState` from the gradient
 * of the state after the rows into that of `state`, the one before them.
 */
export const gatedDeltaBackward_ = op<
  (
    ...args: [
      ...[dRows: T[], dWeights: T[], dState: T[], dOut: T, rows: T[], weights: T[], state: T[]],
      ...[work: T, places: readonly N[], sizes: readonly N[], epsilon: N],
    ]
  ) => void
>(
  "revmoe::gated_delta_backward_(Tensor(a!)[] d_rows, Tensor(b!)[] d_weights, Tensor(c!)[] d_state, Tensor d_out, Tensor[] rows, Tensor[] weights, Tensor[] state, Tensor(d!) work, int[] places, int[] sizes, float epsilon) -> ()",
  nothing,
);
