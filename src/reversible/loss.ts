// A loss over the vocabulary in tiles of tokens: full logits never exist. Only the rows of the objective are used.
// Value and gradient are computed together and in place, so nothing of a tile is kept. A logit takes the bytes of its
// type; a teacher's logit takes as much. Results stay on the device until they are read.
import { hasKernels } from "../torch/kernels/kernels.js";
import {
  cat,
  accumulate_,
  add_,
  addmm_,
  addmmWide,
  copy_,
  hasOp,
  indexCopy_,
  indexSelect,
  mm,
  mmInto_,
  narrow,
  sumDim,
  transpose,
} from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, dtype, empty, shape, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { isCpu } from "../torch/device.js";
import type { LogitScales } from "./logits.js";
import type { Objective } from "./objectives.js";

// Elements of the head's gradient that are computed at once, beside the buffer they are added to. A product in bfloat16
// takes about three times as much for a moment.
const PRODUCT_ELEMENTS = 1 << 22;

export interface LossTile {
  hidden_TD: Tensor;
  head_VD: Tensor;
  objective: Objective;
  tileTokens: number;
  /** The architecture's scales, applied to logits before they are measured. */
  scales: LogitScales;
}

export interface Losses {
  /** Sum of the losses over the objective's rows. */
  total: number;
  /** Number of these rows whose label has the largest logit; 0 for an objective without labels. */
  right: number;
}

/** The head's gradient, dense, float32 or wider. If `isEmpty`, the first product overwrites it. */
export interface HeadGradient {
  sum_VD: Tensor;
  isEmpty: boolean;
}

export const losses = (of: LossTile): Losses => scope(() => readLosses([measured(of, null, () => {})])[0]);

/** Reads the sums of several calls of `lossAndGradient`, in one wait for the device. */
export function readLosses(all: readonly Tensor[]): Losses[] {
  const numbers = all.length === 0 ? [] : scope(() => toArray(cat([...all])));
  return all.map((_, i) => ({ total: numbers[2 * i], right: numbers[2 * i + 1] }));
}

/**
 * Like `losses`, with gradients times `scale`: adds the head's to `head` (null: not wanted), and returns that of the
 * hidden state. `sums_2`, float64 [2], is for `readLosses`.
 */
export function lossAndGradient(
  of: LossTile,
  scale: number,
  head: HeadGradient | null,
): { sums_2: Tensor; dHidden_TD: Tensor } {
  const { hidden_TD, head_VD } = of;
  return scope(() => {
    const dHidden_TD = zeros(shape(hidden_TD), dtype(hidden_TD), device(hidden_TD));
    const addToHead = head && adding(head, dtype(hidden_TD));
    const sums_2 = measured(of, scale, (dLogits_NV, h_ND, positions_N) => {
      indexCopy_(dHidden_TD, 0, positions_N, mm(dLogits_NV, head_VD));
      addToHead?.(transpose(dLogits_NV, 0, 1), h_ND);
    });
    return { sums_2, dHidden_TD };
  });
}

/**
 * Sums of the measured figures, over all rows. `use` gets each tile's gradient of the logits; with scale null, their
 * useless rest.
 */
function measured(
  { hidden_TD, head_VD, objective, tileTokens, scales }: LossTile,
  scale: number | null,
  use: (dLogits_NV: Tensor, h_ND: Tensor, positions_N: Tensor) => void,
): Tensor {
  return scope(() => {
    const [on, { count }] = [device(hidden_TD), objective];
    const { positions_N, measure } = objective.on(on);
    const figures_N2 = empty([count, 2], "float64", on);
    const room_NV = empty([Math.min(tileTokens, count), shape(head_VD)[0]], dtype(hidden_TD), on);
    forEachTile(count, tileTokens, (first, length) =>
      scope(() => {
        const positions = narrow(positions_N, 0, first, length);
        const h_ND = indexSelect(hidden_TD, 0, positions);
        const logits_NV = mmInto_(h_ND, transpose(head_VD, 0, 1), narrow(room_NV, 0, 0, length));
        measure({ logits_NV, scales, first, figures_N2: narrow(figures_N2, 0, first, length) }, scale);
        use(logits_NV, h_ND, positions);
      }),
    );
    return sumDim(figures_N2, [0]);
  });
}

/**
 * Makes a function that adds a product of a [V, N] and b [N, D] of `type` to the head's gradient. Its buffer belongs to
 * the caller's scope.
 */
function adding(head: HeadGradient, type: ReturnType<typeof dtype>): (a_VN: Tensor, b_ND: Tensor) => void {
  const { sum_VD } = head;
  const on = device(sum_VD);
  const [vocabulary, width] = shape(sum_VD);
  const isFirst = (): boolean => {
    const { isEmpty } = head;
    head.isEmpty = false;
    return isEmpty;
  };
  if (dtype(sum_VD) === type) return (a, b) => void addmm_(sum_VD, a, b, isFirst() ? 0 : 1, 1);
  // Here, one operator adds a product of `type` to a wider sum.
  if (type === "bfloat16" && !isCpu(on) && hasOp("aten::addmm.dtype_out"))
    return (a, b) => void addmmWide(sum_VD, a, b, "float32", isFirst() ? 0 : 1, 1, sum_VD);
  const together = Math.min(vocabulary, Math.max(1, Math.floor(PRODUCT_ELEMENTS / width)));
  const room_ND = empty([together, width], type, on);
  const inOnePass = type === "bfloat16" && dtype(sum_VD) === "float32" && hasKernels(on);
  return (a, b) => {
    const first = isFirst();
    forEachTile(vocabulary, together, (start, length) =>
      scope(() => {
        const product_ND = mmInto_(narrow(a, 0, start, length), b, narrow(room_ND, 0, 0, length));
        const sum_ND = narrow(sum_VD, 0, start, length);
        if (inOnePass) accumulate_(sum_ND, product_ND, first);
        else (first ? copy_ : add_)(sum_ND, product_ND);
      }),
    );
  };
}
