// What couplings and steps know of residual streams: their arithmetic, and the check that they stay within their range.
import type { DType, Tensor } from "../../torch/tensor.js";

/**
 * The factor on v in one pass of the momentum coupling: gamma, or gamma times +-1 per token; 0 where v is zero and no
 * bits are kept.
 */
export interface Factor {
  gamma: number;
  /** float32 [T, 1]. */
  signs_T1?: Tensor;
}

/** Streams behind a block, and the bits that bring them back. */
export interface Passed {
  streams: Tensor[];
  bits: Tensor | null;
}

/** Lets a caller decide when to check streams, where each check waits for a GPU. */
export interface Watch {
  /** Throws when a stream has left its range since the watch began. */
  look(): void;
  close(): void;
}

/**
 * Branch outputs y, and x before the first block, are float32 or bfloat16 (float64 with float64 streams). Streams are
 * dense.
 */
export interface StreamFormat {
  readonly name: string;
  /** Whether reversal is bit-exact. */
  readonly exact: boolean;
  /** The float dtype in which branches see the stream. */
  readonly floatDtype: DType;
  /** factor * y as a stream, in a new tensor. */
  fromFloat(y: Tensor, factor?: number): Tensor;
  /** The stream as branches see it; the same tensor if it has that form already. */
  toFloat(stream: Tensor): Tensor;
  /** stream + factor * y, in a new tensor. The product is rounded once, so the same call with -factor undoes it. */
  plus(stream: Tensor, y: Tensor, factor?: number): Tensor;
  /** The same, in place of the stream. */
  plus_(stream: Tensor, y: Tensor, factor?: number): Tensor;
  /**
   * v' = factor * v + (1 - factor) y, the first product rounded down; p' = p + v'. `bits`: the bits of v that this
   * drops, packed; null when there are none or they are not wanted. With `overwrite`, in place where kernels do it in
   * one pass.
   */
  momentum([p, v]: Tensor[], y: Tensor, factor: Factor, wanted: { wantBits: boolean; overwrite?: boolean }): Passed;
  /** p = p' - v', in place of p'; returns it as branches see it. */
  momentumStart_(p: Tensor, v: Tensor): Tensor;
  /** From v' back to v, in place of v'. */
  momentumBack_(v: Tensor, y: Tensor, bits: Tensor | null, factor: Factor): Tensor;
  /**
   * Runs `make`, which passes streams through a block. Throws an error that names `where` when they come near the end
   * of their range, since an overflow would be silent.
   */
  checked<Made extends { streams: Tensor[] }>(where: string, make: () => Made): Made;
  /**
   * From now on `checked` does not wait for a GPU; who holds the watch looks instead. Changes nothing on a CPU, or
   * where looking costs no wait.
   */
  watch(device: string): Watch;
}

export const NO_WATCH: Watch = { look: () => {}, close: () => {} };
