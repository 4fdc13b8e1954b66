// How two residual streams pass a block and come back. A coupling knows branch functions and stream arithmetic, nothing of
// transformers. The same `reverse` serves every method: rebuilding the inputs (reversible) or not (store, checkpoint), so
// that gradients are the same to the last bit.
import type { Tensor } from "../torch/tensor.js";
import type { Solution } from "./fixed-point.js";
import type { StreamFormat } from "./streams.js";

/** "both" is the whole block's addition: attention, then feed-forward on the sum. */
export type Branch = "attention" | "feedForward" | "both";

/** Evaluates a branch at x_TD; the result has the dtype of x_TD. `memory_TD`: where attention has its keys and values from, x_TD else. */
export type Apply = (branch: Branch, x_TD: Tensor, memory_TD?: Tensor) => Tensor;

/**
 * Backpropagates dy_TD through a branch. `x_TD` and `memory_TD` are the branch's inputs where streams are being rebuilt, and
 * null where the graph is at hand; `y_TD` is the branch's output in the first case and null in the second.
 */
export type Visit = (
  branch: Branch,
  x_TD: Tensor | null,
  dy_TD: Tensor,
  memory_TD?: Tensor | null,
) => { y_TD: Tensor | null; dx_TD: Tensor; dMemory_TD: Tensor | null };

/** What a block's outputs are rebuilt from. */
export interface Known {
  streams: Tensor[];
  bits: Tensor | null;
}

/** What the backward pass starts from: a block's outputs, and its branches to be evaluated again. */
export interface Rebuild extends Known {
  apply: Apply;
}

/** One pass of one unit (a block, or a few that count as one) through a coupling. */
export interface Pass {
  /** From 0, counted from where the coupling's streams begin. */
  unit: number;
  /** Whether the forward pass is to hand over what the inverse needs beside the streams. */
  wantBits: boolean;
  /** Whether the forward pass may change the streams it gets, because nobody needs them afterwards. */
  overwrite?: boolean;
  /** +-1 per token as float32 [T, 1], for couplings that draw; the same in the backward pass. */
  signs_T1?: Tensor;
  /** Told how an inverse that is solved by iteration went. */
  report?: (solution: Solution) => void;
  /** What each of those gives who hold the tokens together, in order; left out where all tokens are here. */
  each?: (value: number) => number[];
}

export interface Coupling {
  readonly name: string;
  /** Whether inputs can be rebuilt from outputs; if not, only `store` and `checkpoint` can train it. */
  readonly reversible: boolean;
  readonly numStreams: number;
  /** Bits kept per element of one stream and block. */
  readonly storedBits: number;
  /** What the network computes when a pretrained one becomes it: the same, nearly the same, or something else. */
  readonly conversion: "equal" | "close" | "different";
  /** Training noise around the ordinary network: signs are drawn for every unit, and the ordinary one is evaluated. */
  readonly drawsSigns: boolean;
  /** Whether it uses a block as one function, so that several blocks can make one unit. */
  readonly takesUnits: boolean;
  /** Whether its streams are halves of the hidden state, so that branches need adapters. */
  readonly halves?: boolean;
  begin(x_TD: Tensor, format: StreamFormat): Tensor[];
  /** A block's output streams; `bits` are what the inverse needs beside them (null when nothing, or not wanted). */
  forward(streams: Tensor[], apply: Apply, format: StreamFormat, pass: Pass): Known;
  /**
   * Gradients of a block's input streams from those of its output streams, and, when `known` is given, the input streams.
   * Consumes its arguments: dStreams and known.streams are overwritten.
   */
  reverse(
    dStreams: Tensor[],
    visit: Visit,
    known: Rebuild | null,
    format: StreamFormat,
    pass: Pass,
  ): { dStreams: Tensor[]; streams: Tensor[] | null };
  /** The hidden state that goes to the final norm, and its vector-Jacobian product. */
  end(streams: Tensor[], format: StreamFormat): Tensor;
  endGradient(dHidden_TD: Tensor): Tensor[];
  /** Gradient of the embedding from the gradients of the first block's input streams. */
  beginGradient(dStreams: Tensor[]): Tensor;
}
