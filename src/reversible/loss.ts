// A loss over the vocabulary in tiles of tokens: full logits never exist. Only the rows of the objective are looked at. Value
// and gradient are computed together, so nothing of a tile is kept. With cross-entropy a logit takes 4 bytes in float32 and 6 in
// bfloat16, at the start and the end of a tile, which works in place; with a teacher's logits beside them, 12 and 14.
import { add_, addmmWide, cast, hasOp, indexCopy_, indexSelect, linear, mm, narrow, transpose } from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { free, scope } from "../torch/scope.js";
import { device, type DType, dtype, fromValues, item, shape, type Tensor, zeros } from "../torch/tensor.js";
import { isCpu } from "../torch/device.js";
import { type LogitScales, scaleLogits_, slopeOfLogits, throughLogits_ } from "./logits.js";
import { type Measured, type Objective, wide } from "./objectives.js";

// Elements of the head's gradient that are formed at once beside the buffer they are added to; a product of bfloat16 takes some three
// times as much for a moment.
const PRODUCT_ELEMENTS = 1 << 23;

export interface LossTile {
  hidden_TD: Tensor;
  head_VD: Tensor;
  objective: Objective;
  tileTokens: number;
  /** Of the architecture: what becomes of logits before they are measured. */
  scales: LogitScales;
}

export interface Losses {
  /** Sum of the losses of the objective's rows. */
  total: number;
  /** Of these rows, how many have the largest logit at their label; of an objective without labels, 0. */
  right: number;
}

export function losses(of: LossTile): Losses {
  const sums: Losses = { total: 0, right: 0 };
  forEachTile(of.objective.count, of.tileTokens, (first, count) =>
    scope(() => add(sums, tileLoss(of, first, count), count)),
  );
  return sums;
}

function add(sums: Losses, { loss, wrong }: Measured, count: number): void {
  sums.total += item(loss);
  if (wrong) sums.right += count - item(wrong);
}

/**
 * As `losses`, and gradients times `scale`: the head's is added to dHead_VD in place (null: not wanted), that of the hidden state
 * returned.
 */
export function lossAndGradient(of: LossTile, scale: number, dHead_VD: Tensor | null): Losses & { dHidden_TD: Tensor } {
  const { hidden_TD, head_VD } = of;
  const type = dtype(hidden_TD);
  const [vocabulary, width] = shape(head_VD);
  const isWide = addsWide(dHead_VD, type);
  const together = isWide ? vocabulary : Math.max(1, Math.floor(PRODUCT_ELEMENTS / width));
  const dHidden_TD = zeros(shape(hidden_TD), type, device(hidden_TD));
  const sums: Losses = { total: 0, right: 0 };
  forEachTile(of.objective.count, of.tileTokens, (first, count) => {
    scope(() => {
      const { h_ND, rows_N, gradient, ...measured } = tileLoss(of, first, count);
      const wide_NV = gradient(scale);
      const dLogits_NV = cast(wide_NV, type);
      if (dtype(wide_NV) !== type) free(wide_NV);
      indexCopy_(dHidden_TD, 0, rows_N, mm(dLogits_NV, head_VD));
      forEachTile(dHead_VD === null ? 0 : vocabulary, together, (start, length) => {
        const [sum_ND, dLogits_NN] = [
          narrow(dHead_VD as Tensor, 0, start, length),
          transpose(narrow(dLogits_NV, 1, start, length), 0, 1),
        ];
        scope(() =>
          isWide ? addmmWide(sum_ND, dLogits_NN, h_ND, "float32", 1, 1, sum_ND) : add_(sum_ND, mm(dLogits_NN, h_ND)),
        );
      });
      add(sums, { ...measured, gradient }, count);
    });
  });
  return { ...sums, dHidden_TD };
}

/** Whether products of `type` can be added to the wider `sum` by themselves. */
const addsWide = (sum: Tensor | null, type: DType): boolean =>
  sum !== null &&
  type === "bfloat16" &&
  dtype(sum) === "float32" &&
  !isCpu(device(sum)) &&
  hasOp("aten::addmm.dtype_out");

/** For the caller's scope. */
function tileLoss({ hidden_TD, head_VD, objective, scales }: LossTile, first: number, count: number) {
  const rows_N = fromValues(() => objective.rows(first, count), [count], "int64", device(hidden_TD));
  const h_ND = indexSelect(hidden_TD, 0, rows_N);
  const logits_NV = scope(() => scaleLogits_(scales, wide(linear(h_ND, head_VD))));
  const slope = slopeOfLogits(scales, logits_NV);
  const { gradient, ...measured } = objective.measure(logits_NV, first);
  return { h_ND, rows_N, ...measured, gradient: (scale: number): Tensor => throughLogits_(slope, gradient(scale)) };
}
