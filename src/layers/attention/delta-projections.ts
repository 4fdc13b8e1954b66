// How the matrices that project a hidden state lie in layers with a gated delta rule: one for each kind, or grouped by key head.
import { narrow, reshape } from "../../torch/ops.js";
import { shape, type Tensor } from "../../torch/tensor.js";

interface Heads {
  keyHeads: number;
  keyWidth: number;
  valueHeads: number;
  valueWidth: number;
}

/** Queries, keys, values and gates, heads side by side; and what rates and decays are made of, a number for each head of values. */
export interface Projected {
  q_TN: Tensor;
  k_TN: Tensor;
  v_TN: Tensor;
  z_TN: Tensor;
  b_TH: Tensor;
  a_TH: Tensor;
}

export interface Projections {
  matrices: { name: string; rows: number }[];
  /** What the matrices made, in their order. */
  split(made: Tensor[]): Projected;
}

/** in_proj_qkv, in_proj_z, in_proj_b, in_proj_a: Qwen3.5. */
export function plainProjections({ keyHeads, keyWidth, valueHeads, valueWidth }: Heads): Projections {
  const [keys, values] = [keyHeads * keyWidth, valueHeads * valueWidth];
  return {
    matrices: [
      { name: "in_proj_qkv", rows: 2 * keys + values },
      { name: "in_proj_z", rows: values },
      { name: "in_proj_b", rows: valueHeads },
      { name: "in_proj_a", rows: valueHeads },
    ],
    split: ([qkv_TN, z_TN, b_TH, a_TH]) => ({
      q_TN: narrow(qkv_TN, 1, 0, keys),
      k_TN: narrow(qkv_TN, 1, keys, keys),
      v_TN: narrow(qkv_TN, 1, 2 * keys, values),
      ...{ z_TN, b_TH, a_TH },
    }),
  };
}

/** in_proj_qkvz and in_proj_ba, whose rows are grouped by key head, with the heads of values that share it: Qwen3-Next. */
export function groupedProjections({ keyHeads, keyWidth, valueHeads, valueWidth }: Heads): Projections {
  const shared = valueHeads / keyHeads;
  const values = shared * valueWidth;
  return {
    matrices: [
      { name: "in_proj_qkvz", rows: keyHeads * (2 * keyWidth + 2 * values) },
      { name: "in_proj_ba", rows: 2 * valueHeads },
    ],
    split: ([qkvz_TN, ba_TN]) => {
      const grouped = (t_TN: Tensor): Tensor => reshape(t_TN, [shape(t_TN)[0], keyHeads, -1]);
      const [qkvz_TKN, ba_TKN] = [grouped(qkvz_TN), grouped(ba_TN)];
      const part = (t_TKN: Tensor, first: number, width: number): Tensor =>
        reshape(narrow(t_TKN, 2, first, width), [shape(t_TKN)[0], -1]);
      return {
        q_TN: part(qkvz_TKN, 0, keyWidth),
        k_TN: part(qkvz_TKN, keyWidth, keyWidth),
        v_TN: part(qkvz_TKN, 2 * keyWidth, values),
        z_TN: part(qkvz_TKN, 2 * keyWidth + values, values),
        b_TH: part(ba_TKN, 0, shared),
        a_TH: part(ba_TKN, shared, shared),
      };
    },
  };
}
