// What happens to a tile's logits before they are measured: a factor and a soft cap, with their gradient. Works in
// place; without factor and cap, nothing is computed.
import { addScalar_, mul_, mulScalar, mulScalar_, neg, square, tanh_ } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";

export interface LogitScales {
  /** Factor on the logits. */
  logits: number;
  /** c of c tanh(z / c), applied after the factor; null: no cap. */
  softCap: number | null;
}

/** Logits of a tile of the positions that are measured. */
export interface Tile {
  /** As the product with the head gives them. */
  logits_NV: Tensor;
  /** Applied to them before they are measured. */
  scales: LogitScales;
  /** Index of the tile's first position among all that are measured. */
  first: number;
  /**
   * Where results go, in float64: each position's loss, and 1 if its label has the largest logit (without labels, 0).
   */
  figures_N2: Tensor;
}

/** Scales that give the logits of the old ones, divided by a temperature. */
export const tempered = ({ logits, softCap }: LogitScales, temperature: number): LogitScales => ({
  logits: logits / temperature,
  softCap: softCap === null ? null : softCap / temperature,
});

/** y = c tanh(s z / c), or s z without a cap; overwrites the logits z. */
export function scaleLogits_({ logits, softCap }: LogitScales, z_NV: Tensor): Tensor {
  if (softCap === null) return logits === 1 ? z_NV : mulScalar_(z_NV, logits);
  return mulScalar_(tanh_(mulScalar_(z_NV, logits / softCap)), softCap);
}

/** dy/dz = s (1 - (y / c)^2), to be taken before y is overwritten. Null without a cap, where it is the number s. */
export function slopeOfLogits({ logits, softCap }: LogitScales, y_NV: Tensor): Tensor | null {
  if (softCap === null) return null;
  return scope(() => mulScalar_(addScalar_(neg(square(mulScalar(y_NV, 1 / softCap))), 1), logits));
}

/** dz = slope dy; overwrites dy. */
export function throughLogits_({ logits }: LogitScales, slope: Tensor | null, dy_NV: Tensor): Tensor {
  if (slope !== null) return mul_(dy_NV, slope);
  return logits === 1 ? dy_NV : mulScalar_(dy_NV, logits);
}
