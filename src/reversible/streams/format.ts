// What couplings and steps know of residual streams: their arithmetic, and that they stay within their range.
import type { DType, Tensor } from "../../torch/tensor.js";

/** The factor on v in one pass of the momentum coupling: gamma, or gamma times +-1 per token; 0 where v is zero and none of its bits are kept. */
export interface Factor {
  gamma: number;
  /** float32 [T, 1]. */
  signs_T1?: Tensor;
}

/** Streams behind a block, and what brings them back. */
export interface Passed {
  streams: Tensor[];
  bits: Tensor | null;
}

/** What is looked at now and then where looking means to wait for a GPU. */
export interface Watch {
  /** Throws when a stream has left its range since the watch began. */
  look(): void;
  close(): void;
}

/** Branch outputs y, and x in front of the first block, are float32 or bfloat16 (float64 with streams of that). Streams are dense. */
export interface StreamFormat {
  readonly name: string;
  /** Whether reversal is bit-exact. */
  readonly exact: boolean;
  /** The float dtype in which branches see the stream. */
  readonly floatDtype: DType;
  /** factor * y as a stream, a tensor of its own. */
  fromFloat(y: Tensor, factor?: number): Tensor;
  /** The stream as branches see it; itself where it is that. */
  toFloat(stream: Tensor): Tensor;
  /** stream + factor * y, the product rounded once, so that the same with -factor goes back: a tensor of its own. */
  plus(stream: Tensor, y: Tensor, factor?: number): Tensor;
  /** The same in place of the stream. */
  plus_(stream: Tensor, y: Tensor, factor?: number): Tensor;
  /**
   * v' = factor * v + (1 - factor) y, the first product rounded down; p' = p + v'. `bits`: what of v that drops, packed; null when it is nothing or
   * not wanted. With `overwrite`, in place where that is one pass.
   */
  momentum([p, v]: Tensor[], y: Tensor, factor: Factor, wanted: { wantBits: boolean; overwrite?: boolean }): Passed;
  /** p = p' - v', in place of p'; returns it as branches see it. */
  momentumStart_(p: Tensor, v: Tensor): Tensor;
  /** From v' back to v, in place of v'. */
  momentumBack_(v: Tensor, y: Tensor, bits: Tensor | null, factor: Factor): Tensor;
  /** Runs `make`, which passes streams through a block. Throws when they are near the end of their range, naming `where`: an overflow would be silent. */
  checked<Made extends { streams: Tensor[] }>(where: string, make: () => Made): Made;
  /** From now on a GPU is not waited for in `checked`; whoever holds the watch looks. On a CPU, and where looking is no wait, nothing changes. */
  watch(device: string): Watch;
}

export const NO_WATCH: Watch = { look: () => {}, close: () => {} };
