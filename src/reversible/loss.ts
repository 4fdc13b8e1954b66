// Cross-entropy over the vocabulary in tiles of tokens: full logits never exist. Only trained rows are looked at. Value
// and gradient are computed together, so nothing of a tile is kept:
//   loss = scale * sum_n (logsumexp(z_n) - z_n[label_n]),  dz_n = scale * (softmax(z_n) - onehot(label_n))
import {
  add_,
  cast,
  exp_,
  gather,
  indexCopy_,
  indexSelect,
  linear,
  logsumexp,
  mm,
  mulScalar_,
  narrow,
  scatterAdd_,
  sub,
  sub_,
  sum,
  transpose,
  unsqueeze,
} from "../torch/ops.js";
import { scope } from "../torch/scope.js";
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
export function lossSum({ hidden_TD, head_VD, labels_T, tileTokens }: LossTile): number {
  let total = 0;
  for (const { rows, labels } of tiles(labels_T, tileTokens)) {
    total += scope(() => {
      const on = device(hidden_TD);
      const h_ND = indexSelect(hidden_TD, 0, fromArray(rows, [rows.length], "int64", on));
      const logits_NV = wide(linear(h_ND, head_VD));
      const target_N1 = gather(logits_NV, 1, unsqueeze(fromArray(labels, [labels.length], "int64", on), 1));
      return item(sum(sub(logsumexp(logits_NV, [1], true), target_N1)));
    });
  }
  return total;
}

/** As `lossSum`, and gradients times `scale`: the head's is added to dHead_VD in place, that of the hidden state returned. */
export function lossAndGradient(
  { hidden_TD, head_VD, labels_T, tileTokens }: LossTile,
  scale: number,
  dHead_VD: Tensor,
): { total: number; dHidden_TD: Tensor } {
  const on = device(hidden_TD);
  const type = dtype(hidden_TD);
  const dHidden_TD = zeros(shape(hidden_TD), type, on);
  let total = 0;
  for (const { rows, labels } of tiles(labels_T, tileTokens)) {
    total += scope(() => {
      const rows_N = fromArray(rows, [rows.length], "int64", on);
      const labels_N1 = unsqueeze(fromArray(labels, [labels.length], "int64", on), 1);
      const h_ND = indexSelect(hidden_TD, 0, rows_N);
      const logits_NV = wide(linear(h_ND, head_VD));
      const logsum_N1 = logsumexp(logits_NV, [1], true);
      const loss = item(sum(sub(logsum_N1, gather(logits_NV, 1, labels_N1))));
      const dz_NV = exp_(sub_(logits_NV, logsum_N1));
      scatterAdd_(dz_NV, 1, labels_N1, full([rows.length, 1], -1, dtype(dz_NV), on));
      const dLogits_NV = cast(mulScalar_(dz_NV, scale), type);
      indexCopy_(dHidden_TD, 0, rows_N, mm(dLogits_NV, head_VD));
      const vocabulary = shape(head_VD)[0];
      for (let start = 0; start < vocabulary; start += VOCABULARY_TILE) {
        const length = Math.min(VOCABULARY_TILE, vocabulary - start);
        scope(() => add_(narrow(dHead_VD, 0, start, length), mm(transpose(narrow(dLogits_NV, 1, start, length), 0, 1), h_ND)));
      }
      return loss;
    });
  }
  return { total, dHidden_TD };
}

const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");

function* tiles(labels_T: Int32Array, tileTokens: number): Generator<{ rows: number[]; labels: number[] }> {
  const trained = Array.from(labels_T.keys()).filter((position) => labels_T[position] >= 0);
  for (let start = 0; start < trained.length; start += tileTokens) {
    const rows = trained.slice(start, start + tileTokens);
    yield { rows, labels: rows.map((position) => labels_T[position]) };
  }
}
