// The sizes of a layer with a gated delta rule.
import type { NormForm } from "../norm.js";
import type { Projections } from "./delta-projections.js";

export interface GatedDelta {
  hiddenSize: number;
  normEpsilon: number;
  /** Form of the input norm; "n rounded" by default. */
  normForm?: NormForm;
  keyHeads: number;
  keyWidth: number;
  /** A multiple of the key heads; consecutive value heads share a key head. */
  valueHeads: number;
  valueWidth: number;
  /** Number of tokens that the convolution sees, the present one last. */
  kernel: number;
  projections: Projections;
}
