// Cross-entropy over the vocabulary in tiles of tokens: full logits never exist. Only trained rows are looked at. Value
// and gradient are computed together, so nothing of a tile is kept. A logit takes 4 bytes in float32 and 6 in bfloat16, at
// the start and the end of a tile, which works in place:
//   loss = scale * sum_n (logsumexp(z_n) - z_n[label_n]),  dz_n = scale * (softmax(z_n) - onehot(label_n))
import {
  add_,
  amax,
  cast,
  exp_,
  gather,
  indexCopy_,
  indexSelect,
  linear,
  log,
  mm,
  mul_,
  mulScalar,
  narrow,
  reciprocal,
  scatterAdd_,
  sub,
  sub_,
  sum,
  sumDim,
  transpose,
} from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { device, dtype, fromArray, full, item, shape, type Tensor, zeros } from "../torch/tensor.js";

// Rows of the vocabulary whose weight gradient is formed at once beside the buffer it is added to.
const VOCABULARY_TILE = 16_384;

export interface LossTile {
  hidden_TD: Tensor;
  head_VD: Tensor;
  /** Token to predict per position; negative where nothing is trained. */
  labels_T: Int32Array;
  tileTokens: number;
}

/** Sum of the cross-entropies of the trained rows. */
export function lossSum(of: LossTile): number {
  let total = 0;
  for (const { rows, labels } of tiles(of.labels_T, of.tileTokens)) total += scope(() => item(tileLoss(of, rows, labels).loss));
  return total;
}

/** As `lossSum`, and gradients times `scale`: the head's is added to dHead_VD in place, that of the hidden state returned. */
export function lossAndGradient(of: LossTile, scale: number, dHead_VD: Tensor): { total: number; dHidden_TD: Tensor } {
  const { hidden_TD, head_VD } = of;
  const on = device(hidden_TD);
  const type = dtype(hidden_TD);
  const vocabulary = shape(head_VD)[0];
  const dHidden_TD = zeros(shape(hidden_TD), type, on);
  let total = 0;
  for (const { rows, labels } of tiles(of.labels_T, of.tileTokens)) {
    total += scope(() => {
      const { h_ND, rows_N, labels_N1, exp_NV, sum_N1, loss } = tileLoss(of, rows, labels);
      mul_(exp_NV, mulScalar(reciprocal(sum_N1), scale));
      scatterAdd_(exp_NV, 1, labels_N1, full([rows.length, 1], -scale, dtype(exp_NV), on));
      const dLogits_NV = cast(exp_NV, type);
      if (dtype(exp_NV) !== type) free(exp_NV);
      indexCopy_(dHidden_TD, 0, rows_N, mm(dLogits_NV, head_VD));
      for (let start = 0; start < vocabulary; start += VOCABULARY_TILE) {
        const length = Math.min(VOCABULARY_TILE, vocabulary - start);
        scope(() => add_(narrow(dHead_VD, 0, start, length), mm(transpose(narrow(dLogits_NV, 1, start, length), 0, 1), h_ND)));
      }
      return item(loss);
    });
  }
  return { total, dHidden_TD };
}

/** For the caller's scope: z - max(z) becomes its exponential in place, `sum_N1` is its sum. */
function tileLoss(
  { hidden_TD, head_VD }: LossTile,
  rows: number[],
  labels: number[],
): Record<"h_ND" | "rows_N" | "labels_N1" | "exp_NV" | "sum_N1" | "loss", Tensor> {
  const on = device(hidden_TD);
  const rows_N = fromArray(rows, [rows.length], "int64", on);
  const labels_N1 = fromArray(labels, [labels.length, 1], "int64", on);
  const h_ND = indexSelect(hidden_TD, 0, rows_N);
  const logits_NV = scope(() => wide(linear(h_ND, head_VD)));
  sub_(logits_NV, amax(logits_NV, [1], true));
  const target_N1 = gather(logits_NV, 1, labels_N1);
  const exp_NV = exp_(logits_NV);
  const sum_N1 = sumDim(exp_NV, [1], true);
  return { h_ND, rows_N, labels_N1, exp_NV, sum_N1, loss: sum(sub(log(sum_N1), target_N1)) };
}

const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");

function* tiles(labels_T: Int32Array, tileTokens: number): Generator<{ rows: number[]; labels: number[] }> {
  const trained = Array.from(labels_T.keys()).filter((position) => labels_T[position] >= 0);
  for (let start = 0; start < trained.length; start += tileTokens) {
    const rows = trained.slice(start, start + tileTokens);
    yield { rows, labels: rows.map((position) => labels_T[position]) };
  }
}
