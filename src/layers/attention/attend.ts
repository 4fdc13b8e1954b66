// Causal self-attention over packed documents: grouped key/value heads, an optional sliding window, softmax in float32.
// Without a cache it uses one of libtorch's fused forms, if one knows the case (fused.ts); else tiles. Scores of all
// queries against all keys never exist.
import { cat, mulScalar, narrow, reshape } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, shape, type Tensor, zeros } from "../../torch/tensor.js";
import { fusedAttention } from "./fused.js";
import { tiledAttention } from "./tiled.js";

/**
 * softmax(s q k^T + causal mask) v within each document, heads side by side: [T, H*V]. V is the width of values, which
 * may differ from that of queries and keys. With a `window`, a query sees that many keys, its own the last. With a
 * cache there is one document, and the queries are its last tokens. The `scale` s is 1 / sqrt(C) by default. `sinks_H`
 * is one more score per head for each of its queries; its share of the softmax goes to no value. `ends_S`: see
 * `Context`; made here if it is not given.
 */
export function attend(
  q_THC: Tensor,
  k_UKC: Tensor,
  v_UKC: Tensor,
  segments: number[],
  window: number | null = null,
  scale?: number,
  sinks_H: Tensor | null = null,
  ends_S: Tensor | null = null,
): Tensor {
  const [tokens, heads, width] = shape(q_THC);
  const valueWidth = shape(v_UKC)[2];
  // Fused forms divide by sqrt(C).
  if (scale !== undefined && scale !== width ** -0.5)
    return scope(() =>
      attend(mulScalar(q_THC, scale * width ** 0.5), k_UKC, v_UKC, segments, window, undefined, sinks_H, ends_S),
    );
  const sees = segments.every((length) => window === null || window >= length) ? null : window;
  const keyHeads = shape(k_UKC)[1] * segments.length;
  const fused =
    shape(k_UKC)[0] === tokens && valueWidth <= width
      ? fusedAttention(q_THC, { sees, hasSinks: sinks_H !== null, keyHeads })
      : null;
  const out_THC = fused
    ? narrowed(fused(q_THC, k_UKC, widened(v_UKC, width), { segments, window: sees, ends_S }, sinks_H), valueWidth)
    : tiledAttention(q_THC, k_UKC, v_UKC, segments, window, sinks_H);
  return reshape(out_THC, [tokens, heads * valueWidth]);
}

/** Appends zeros to each head's values, because fused forms need them as wide as keys. */
function widened(v_UKC: Tensor, width: number): Tensor {
  const [keys, groups, own] = shape(v_UKC);
  if (own === width) return v_UKC;
  return scope(() => cat([v_UKC, zeros([keys, groups, width - own], dtype(v_UKC), device(v_UKC))], 2));
}

const narrowed = (out_THC: Tensor, width: number): Tensor =>
  shape(out_THC)[2] === width ? out_THC : narrow(out_THC, 2, 0, width);
