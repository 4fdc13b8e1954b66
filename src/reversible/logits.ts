// Logits of a tile, and what becomes of them before they are measured: a factor and a soft cap, with their gradient. Works in place;
// without them, nothing is computed.
import { addScalar_, mul_, mulScalar, mulScalar_, neg, square, tanh_ } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";

export interface LogitScales {
  /** Multiplies them. */
  logits: number;
  /** c of c tanh(z / c), behind the factor; null for none. */
  softCap: number | null;
}

/** Logits of some of the positions that are looked at. */
export interface Tile {
  /** As the head's product leaves them. */
  logits_NV: Tensor;
  /** What becomes of them before they are measured. */
  scales: LogitScales;
  /** Which of the positions is the first. */
  first: number;
  /** For what is measured, float64: the loss of each, and 1 where its label has the largest logit (without labels, 0). */
  figures_N2: Tensor;
}

/** Scales whose logits are those of the others divided by a temperature. */
export const tempered = ({ logits, softCap }: LogitScales, temperature: number): LogitScales => ({
  logits: logits / temperature,
  softCap: softCap === null ? null : softCap / temperature,
});

/** y = c tanh(s z / c) of logits z, or s z without a cap; in their storage. */
export function scaleLogits_({ logits, softCap }: LogitScales, z_NV: Tensor): Tensor {
  if (softCap === null) return logits === 1 ? z_NV : mulScalar_(z_NV, logits);
  return mulScalar_(tanh_(mulScalar_(z_NV, logits / softCap)), softCap);
}

/** What is needed of y, before it is overwritten, for the gradient: dy/dz = s (1 - (y / c)^2). Null without a cap, where it is s. */
export function slopeOfLogits({ logits, softCap }: LogitScales, y_NV: Tensor): Tensor | null {
  if (softCap === null) return null;
  return scope(() => mulScalar_(addScalar_(neg(square(mulScalar(y_NV, 1 / softCap))), 1), logits));
}

/** dz = slope dy, in the storage of dy. */
export function throughLogits_({ logits }: LogitScales, slope: Tensor | null, dy_NV: Tensor): Tensor {
  if (slope !== null) return mul_(dy_NV, slope);
  return logits === 1 ? dy_NV : mulScalar_(dy_NV, logits);
}
