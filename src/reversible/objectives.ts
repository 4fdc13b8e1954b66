// What a tile's logits are measured against: tokens to predict, or the logits of a teacher. Value and gradient are in
// closed form, in one pass of a kernel where there is one; the gradient overwrites the logits.
import { assert } from "../errors.js";
import { hasKernels } from "../torch/kernels/kernels.js";
import { crossEntropy_, divergence_, linear, narrow } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { device, dtype, fromValues, shape, type Tensor } from "../torch/tensor.js";
import { type LogitScales, tempered, type Tile } from "./logits.js";
import { crossEntropyReference, divergenceReference } from "./loss-reference.js";

export interface Objective {
  /** How many positions of a micro-batch are measured. */
  readonly count: number;
  /** Brings what it needs to a device, for the caller's scope. */
  on(device: string): OpenObjective;
}

export interface OpenObjective {
  /** The positions that are measured, in order, int64. */
  positions_N: Tensor;
  /**
   * Measures a tile. With a scale, overwrites the logits with `scale` times the gradient of the summed losses; with
   * null, they are of no use afterwards.
   */
  measure(tile: Tile, scale: number | null): void;
}

const inKernels = ({ logits_NV }: Tile): boolean =>
  ["float32", "bfloat16"].includes(dtype(logits_NV)) && hasKernels(device(logits_NV));

/** Factor and cap as the kernels take them: cap 0 is none. */
const factorAndCap = ({ logits, softCap }: LogitScales): [number, number] => [logits, softCap ?? 0];

/**
 * Cross-entropy with the token to predict at each position; a negative label is not trained:
 *   loss = sum_n (logsumexp(z_n) - z_n[label_n]),  dz_n = softmax(z_n) - onehot(label_n)
 * `trained` is the number of labels that are not negative; labels are read only when they are needed.
 */
export function crossEntropy(labels_T: ArrayLike<number>, trained = countTrained(labels_T)): Objective {
  return {
    count: trained,
    on: (place) => {
      let found: Int32Array | null = null;
      const positions = (): Int32Array => (found ??= trainedPositions(labels_T, trained));
      const labels_N = fromValues(() => positions().map((at) => labels_T[at]), [trained], "int64", place);
      return {
        positions_N: fromValues(positions, [trained], "int64", place),
        measure: (tile, scale) =>
          scope(() => {
            const { logits_NV, figures_N2, first } = tile;
            const labels = narrow(labels_N, 0, first, shape(logits_NV)[0]);
            if (!inKernels(tile)) return crossEntropyReference(tile, labels, scale);
            crossEntropy_(logits_NV, labels, figures_N2, ...factorAndCap(tile.scales), scale);
          }),
      };
    },
  };
}

function countTrained(labels_T: ArrayLike<number>): number {
  let count = 0;
  for (let position = 0; position < labels_T.length; position++) if (labels_T[position] >= 0) count++;
  return count;
}

function trainedPositions(labels_T: ArrayLike<number>, count: number): Int32Array {
  const positions = new Int32Array(count);
  let found = 0;
  for (let position = 0; position < labels_T.length; position++)
    if (labels_T[position] >= 0) positions[found++] = position;
  assert(found === count, `${found} labels are trained, not ${count}`);
  return positions;
}

/** A teacher's output for a micro-batch: hidden states behind the final norm, and its head. The caller owns them. */
export interface Taught {
  hidden_TD: Tensor;
  head_VD: Tensor;
  /** Scales of the teacher's architecture. */
  scales: LogitScales;
  /** Divides the logits of teacher and student. */
  temperature: number;
}

/**
 * KL(teacher || student) at temperature t, times t^2 so that gradients keep their size (Hinton, Vinyals and Dean, arXiv
 * 1503.02531), over all positions. With p = softmax(teacher / t) and q = softmax(z / t):
 *   loss = t^2 sum_n sum_v p_nv (log p_nv - log q_nv),  dz_n = t (q_n - p_n)
 */
export function divergence({ hidden_TD, head_VD, scales, temperature }: Taught): Objective {
  const [count] = shape(hidden_TD);
  const weight = temperature ** 2;
  return {
    count,
    on: (place) => ({
      positions_N: fromValues(() => Int32Array.from({ length: count }, (_, i) => i), [count], "int64", place),
      measure: (untempered, scale) =>
        scope(() => {
          const tile = { ...untempered, scales: tempered(untempered.scales, temperature) };
          const { logits_NV, first, figures_N2 } = tile;
          const teacher = {
            logits_NV: linear(narrow(hidden_TD, 0, first, shape(logits_NV)[0]), head_VD),
            scales: tempered(scales, temperature),
          };
          if (!inKernels(tile)) return divergenceReference(tile, teacher, weight, scale);
          const [of, ofTeacher] = [factorAndCap(tile.scales), factorAndCap(teacher.scales)];
          divergence_(logits_NV, ...of, teacher.logits_NV, ...ofTeacher, figures_N2, weight, scale);
        }),
    }),
  };
}
