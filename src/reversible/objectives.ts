// What the logits of a tile of tokens are measured by: tokens to predict, or the logits of a teacher. Value and gradient are in
// closed form and work in place on the logits, which are float32 or float64; tensors belong to the scope of the caller.
import {
  amax,
  cast,
  exp_,
  gather,
  linear,
  log,
  logsumexp,
  lt,
  mul_,
  mulScalar,
  mulScalar_,
  narrow,
  reciprocal,
  scatterAdd_,
  sub,
  sub_,
  sum,
  sumDim,
} from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { assert } from "../errors.js";
import { type LogitScales, scaleLogits_ } from "./logits.js";
import { device, dtype, fromValues, full, shape, type Tensor } from "../torch/tensor.js";

export interface Objective {
  /** How many positions of a micro-batch have logits that are looked at. */
  readonly count: number;
  /** `count` of these positions, in order, from the `first` of them on. */
  rows(first: number, count: number): ArrayLike<number>;
  /** The sum of the losses of as many of these positions as there are logits, from the `first` of them on. Overwrites the logits. */
  measure(logits_NV: Tensor, first: number): Measured;
}

export interface Measured {
  loss: Tensor;
  /** At how many positions another token than the label has the largest logit; without labels, nothing. */
  wrong?: Tensor;
  /** `scale` times the gradient of the loss by the logits, once, in their storage. */
  gradient(scale: number): Tensor;
}

/**
 * Cross-entropy with the token to predict per position; negative where nothing is trained:
 *   loss = sum_n (logsumexp(z_n) - z_n[label_n]),  dz_n = softmax(z_n) - onehot(label_n)
 * `trained` is how many are not negative; labels are looked at when they are needed.
 */
export function crossEntropy(labels_T: ArrayLike<number>, trained = countTrained(labels_T)): Objective {
  let found: Int32Array | null = null;
  const rows = (first: number, count: number): Int32Array =>
    (found ??= trainedPositions(labels_T, trained)).subarray(first, first + count);
  return {
    count: trained,
    rows,
    measure: (logits_NV, first) => {
      const [on, count] = [device(logits_NV), shape(logits_NV)[0]];
      const labels_N1 = fromValues(
        () => rows(first, count).map((position) => labels_T[position]),
        [count, 1],
        "int64",
        on,
      );
      sub_(logits_NV, amax(logits_NV, [1], true));
      const target_N1 = gather(logits_NV, 1, labels_N1);
      const exp_NV = exp_(logits_NV);
      const sum_N1 = sumDim(exp_NV, [1], true);
      return {
        loss: sum(sub(log(sum_N1), target_N1)),
        // The largest logit is zero by now, so that one look at the label's tells. A tie is right.
        wrong: scope(() => sum(cast(lt(target_N1, 0), "int64"))),
        gradient: (scale) => {
          mul_(exp_NV, mulScalar(reciprocal(sum_N1), scale));
          return scatterAdd_(exp_NV, 1, labels_N1, full([count, 1], -scale, dtype(exp_NV), on));
        },
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

/** What a teacher says of a micro-batch: its hidden states behind the final norm, and its head. They stay the caller's. */
export interface Taught {
  hidden_TD: Tensor;
  head_VD: Tensor;
  /** Of the architecture: what becomes of its logits. */
  scales: LogitScales;
  /** Divides the logits of both. */
  temperature: number;
}

/**
 * KL(teacher || student) at temperature t, times t^2 so that gradients keep their size (Hinton, Vinyals and Dean, arXiv 1503.02531),
 * over all positions. With p = softmax(teacher / t) and q = softmax(z / t):
 *   loss = t^2 sum_n sum_v p_nv (log p_nv - log q_nv),  dz_n = t (q_n - p_n)
 */
export function divergence({ hidden_TD, head_VD, scales, temperature }: Taught): Objective {
  return {
    count: shape(hidden_TD)[0],
    rows: (first, count) => Int32Array.from({ length: count }, (_, i) => first + i),
    measure: (logits_NV, first) => {
      const count = shape(logits_NV)[0];
      const teacher_NV = scope(() => scaleLogits_(scales, wide(linear(narrow(hidden_TD, 0, first, count), head_VD))));
      for (const tensor of [teacher_NV, logits_NV]) toLogProbabilities(tensor, temperature);
      const apart_NV = sub(teacher_NV, logits_NV);
      const p_NV = exp_(teacher_NV);
      const loss = mulScalar(sum(mul_(apart_NV, p_NV)), temperature ** 2);
      free(apart_NV);
      return { loss, gradient: (scale) => mulScalar_(sub_(exp_(logits_NV), p_NV), scale * temperature) };
    },
  };
}

function toLogProbabilities(z_NV: Tensor, temperature: number): void {
  scope(() => {
    if (temperature !== 1) mulScalar_(z_NV, 1 / temperature);
    sub_(z_NV, logsumexp(z_NV, [1], true));
  });
}

/** Logits in the type that losses are summed in. */
export const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");
