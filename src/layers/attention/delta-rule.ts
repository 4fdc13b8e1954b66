// The gated delta rule (Gated DeltaNet, arXiv 2412.06464). A head has a state S; a token fades, corrects and reads it:
//   S <- e^g S,  S <- S + b k (v - S^T k)^T,  o = S^T q
// In chunks of tokens (section 3.3 there) only S goes from chunk to chunk; the rest are products of matrices, with
//   G = cumsum(g) within a chunk and P_ij = e^(G_i - G_j) for j <= i, else 0,
//   (I + strict lower part of (b K K^T) * P) [U, W] = [b V, b e^G K],  V' = U - W S,
//   O = e^G Q S + (Q K^T * P) V',  S <- e^(G_last) S + (e^(G_last - G) K)^T V'
import {
  add,
  bmm,
  cat,
  exp,
  mm,
  mul,
  narrow,
  neg,
  reshape,
  solveTriangular,
  sub,
  transpose,
  triu,
  unbind,
  unsqueeze,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, full, shape, type Tensor, zeros } from "../../torch/tensor.js";

/** Inputs of the rule, for each token and head; `logDecay` is g and `rate` is b. */
export interface DeltaTokens {
  q_THC: Tensor;
  k_THC: Tensor;
  v_THV: Tensor;
  logDecay_TH: Tensor;
  rate_TH: Tensor;
}

/**
 * Starts from the state before the tokens; returns what each token reads, and the state after them. `longest`: most
 * tokens of a chunk.
 */
export function deltaRule(
  { q_THC, k_THC, v_THV, logDecay_TH, rate_TH }: DeltaTokens,
  state_HCV: Tensor,
  longest: number,
): { out_THV: Tensor; state_HCV: Tensor } {
  const [tokens, heads, width] = shape(k_THC);
  const valueWidth = shape(v_THV)[2];
  const size = Math.min(longest, tokens);
  const chunks = Math.ceil(tokens / size);
  const chunked = (t_THN: Tensor): Tensor =>
    scope(() =>
      reshape(transpose(reshape(padded(t_THN, chunks * size), [chunks, size, heads, -1]), 1, 2), [
        chunks * heads,
        size,
        -1,
      ]),
    );
  const unchunked = (t_NHSV: Tensor): Tensor =>
    narrow(reshape(transpose(t_NHSV, 1, 2), [chunks * size, heads, valueWidth]), 0, 0, tokens);
  // Splits by chunk, to one [H, S, N] each.
  const apart = (t_MSN: Tensor): Tensor[] => unbind(reshape(t_MSN, [chunks, heads, ...shape(t_MSN).slice(1)]), 0);

  return scope(() => {
    // M counts heads of chunks, S tokens of a chunk.
    const inside = scope(() => {
      const [q_MSC, k_MSC, v_MSV] = [q_THC, k_THC, v_THV].map(chunked);
      const [decay_MS1, rate_MS1] = [logDecay_TH, rate_TH].map(chunked);
      const triangle = (value: number, diagonal: number): Tensor =>
        triu(full([size, size], value, dtype(q_THC), device(q_THC)), diagonal);
      // A product instead of a running sum, which on a GPU has other bits each time.
      const sum_MS1 = unsqueeze(mm(reshape(decay_MS1, [-1, size]), triangle(1, 0)), 2);
      const closed_SS = triangle(Number.NEGATIVE_INFINITY, 1);
      const between_MSS = exp(add(sub(sum_MS1, transpose(sum_MS1, 1, 2)), closed_SS));
      const grown_MS1 = exp(sum_MS1);
      const kRows_MCS = transpose(k_MSC, 1, 2);
      const system_MSS = mul(mul(bmm(k_MSC, kRows_MCS), rate_MS1), between_MSS);
      const right_MSN = cat([mul(v_MSV, rate_MS1), mul(k_MSC, mul(rate_MS1, grown_MS1))], 2);
      const solved_MSN = solveTriangular(system_MSS, right_MSN, false, true, true);
      const last_M11 = narrow(sum_MS1, 1, size - 1, 1);
      return {
        u: narrow(solved_MSN, 2, 0, valueWidth),
        minusW: neg(narrow(solved_MSN, 2, valueWidth, width)),
        q: mul(q_MSC, grown_MS1),
        within: mul(bmm(q_MSC, kRows_MCS), between_MSS),
        left: mul(k_MSC, exp(sub(last_M11, sum_MS1))),
        decay: exp(last_M11),
      };
    });
    const [u, minusW, q, within, left, decay] = Object.values(inside).map(apart);
    const outputs: Tensor[] = [];
    let before_HCV = state_HCV;
    for (let i = 0; i < chunks; i++) {
      const { out_HSV, after_HCV } = scope(() => {
        const new_HSV = add(u[i], bmm(minusW[i], before_HCV));
        return {
          out_HSV: add(bmm(q[i], before_HCV), bmm(within[i], new_HSV)),
          after_HCV: add(mul(before_HCV, decay[i]), bmm(transpose(left[i], 1, 2), new_HSV)),
        };
      });
      outputs.push(unsqueeze(out_HSV, 0));
      before_HCV = after_HCV;
    }
    return { out_THV: unchunked(cat(outputs, 0)), state_HCV: before_HCV };
  });
}

/** Appends rows of zeros, which change no state. */
function padded(t_THN: Tensor, tokens: number): Tensor {
  const [own, ...rest] = shape(t_THN);
  return own === tokens ? t_THN : cat([t_THN, zeros([tokens - own, ...rest], dtype(t_THN), device(t_THN))], 0);
}
