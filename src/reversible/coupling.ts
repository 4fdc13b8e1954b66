// How two residual streams pass a block and come back. A coupling knows branch functions and stream arithmetic, nothing
// of transformers. The same `reverse` serves every method, whether it rebuilds the inputs (reversible) or not (store,
// checkpoint); so gradients are the same to the last bit.
import type { Tensor } from "../torch/tensor.js";
import type { Solution } from "./fixed-point.js";
import type { StreamFormat } from "./streams.js";

/** A branch by name; "both" is the whole block's addition: attention, then feed-forward on the sum. */
export type Branch = "attention" | "feedForward" | "both";

/**
 * Evaluates a branch at x_TD; the result has the dtype of x_TD. Attention takes keys and values from `memory_TD`, or
 * from x_TD without it.
 */
export type Apply = (branch: Branch, x_TD: Tensor, memory_TD?: Tensor) => Tensor;

/**
 * Backpropagates dy_TD through a branch. Where streams are rebuilt, `x_TD` and `memory_TD` are the branch's inputs and
 * the result's `y_TD` is its output. Where a graph is kept, all three are null.
 */
export type Visit = (
  branch: Branch,
  x_TD: Tensor | null,
  dy_TD: Tensor,
  memory_TD?: Tensor | null,
) => { y_TD: Tensor | null; dx_TD: Tensor; dMemory_TD: Tensor | null };

/** A block's output streams and stored bits: what its input streams are rebuilt from. */
export interface Known {
  streams: Tensor[];
  bits: Tensor | null;
}

/** What rebuilding starts from: a block's outputs, and its branches, to be evaluated again. */
export interface Rebuild extends Known {
  apply: Apply;
}

/** One pass of one unit (a block, or several that count as one) through a coupling. */
export interface Pass {
  /** Number of the unit, from 0 at the first unit of the coupling's streams. */
  unit: number;
  /** Whether the forward pass must return the bits that the inverse needs beside the streams. */
  wantBits: boolean;
  /** Whether the forward pass may change the streams it gets, because nobody needs them afterwards. */
  overwrite?: boolean;
  /** +-1 per token as float32 [T, 1], for couplings that draw; the same in the backward pass. */
  signs_T1?: Tensor;
  /** Called with the outcome of an inverse that is solved by iteration. */
  report?: (solution: Solution) => void;
  /** Gathers a value from all ranks that hold the tokens together, in order; left out where all tokens are here. */
  each?: (value: number) => number[];
}

export interface Coupling {
  readonly name: string;
  /** Whether inputs can be rebuilt from outputs; if not, only `store` and `checkpoint` can train it. */
  readonly reversible: boolean;
  readonly numStreams: number;
  /** Bits kept per element of one stream and block. */
  readonly storedBits: number;
  /** How near the network stays to a pretrained one that is converted: equal, close, or different. */
  readonly conversion: "equal" | "close" | "different";
  /**
   * Whether a sign is drawn for every unit in training. Then training is noise around the ordinary network, which is
   * evaluated.
   */
  readonly drawsSigns: boolean;
  /** Whether it uses a block as one function; only then can several blocks make one unit. */
  readonly takesUnits: boolean;
  /** Whether its streams are halves of the hidden state, so that branches need adapters. */
  readonly halves?: boolean;
  begin(x_TD: Tensor, format: StreamFormat): Tensor[];
  /** Passes a block. `bits` are what the inverse needs beside the output streams; null if nothing, or not wanted. */
  forward(streams: Tensor[], apply: Apply, format: StreamFormat, pass: Pass): Known;
  /**
   * Computes the gradients of a block's input streams from those of its output streams and, if `known` is given, the
   * input streams. Overwrites dStreams and known.streams.
   */
  reverse(
    dStreams: Tensor[],
    visit: Visit,
    known: Rebuild | null,
    format: StreamFormat,
    pass: Pass,
  ): { dStreams: Tensor[]; streams: Tensor[] | null };
  /** The hidden state that goes to the final norm; below it, its vector-Jacobian product. */
  end(streams: Tensor[], format: StreamFormat): Tensor;
  endGradient(dHidden_TD: Tensor): Tensor[];
  /** Gradient of the embedding from the gradients of the first block's input streams. */
  beginGradient(dStreams: Tensor[]): Tensor;
}
