// The sizes of a layer with a gated delta rule.
import type { NormForm } from "../norm.js";
import type { Projections } from "./delta-projections.js";

export interface GatedDelta {
  hiddenSize: number;
  normEpsilon: number;
  /** Of the norm in front; "n rounded" unless said otherwise. */
  normForm?: NormForm;
  keyHeads: number;
  keyWidth: number;
  /** A multiple of the key heads: so many follow one another that share a key head. */
  valueHeads: number;
  valueWidth: number;
  /** Tokens that the convolution sees, its own the last. */
  kernel: number;
  projections: Projections;
}
