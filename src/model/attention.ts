// Causal self-attention over packed documents: rotary positions, grouped key/value heads, an optional sliding window,
// softmax in float32. Uses the engine's fused form where libtorch has one (2.0 and newer), else plain products per document.
import {
  add,
  baddbmm,
  bmm,
  cast,
  cat,
  contiguous,
  expand,
  flashAttention,
  hasOp,
  mul,
  narrow,
  neg,
  reshape,
  softmax,
  transpose,
  tril,
  triu,
  unsqueeze,
} from "../torch/ops.js";
import { device, dtype, full, shape, type Tensor } from "../torch/tensor.js";

/** Keys and values of earlier tokens, per layer; `extend` appends the new ones and returns all. */
export interface KeyValueCache {
  extend(layer: number, keys_TKC: Tensor, values_TKC: Tensor): { keys_TKC: Tensor; values_TKC: Tensor };
}

/** x cos + rotate_half(x) sin, with rotate_half([a, b]) = [-b, a] on halves of the head width (RoFormer, eq. 34). */
export function rotate(x_THC: Tensor, cos_TC: Tensor, sin_TC: Tensor): Tensor {
  const half = shape(x_THC)[2] / 2;
  const turned = cat([neg(narrow(x_THC, 2, half, half)), narrow(x_THC, 2, 0, half)], 2);
  return add(mul(x_THC, unsqueeze(cos_TC, 1)), mul(turned, unsqueeze(sin_TC, 1)));
}

/**
 * softmax(q k^T / sqrt(C) + causal mask) v within each document, heads side by side: [T, H*C]. With a `window`, a query
 * sees so many keys, its own the last. With a cache there is one document, and the queries are its last tokens.
 */
export function attend(q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor, segments: number[], window: number | null = null): Tensor {
  const [rows, heads, width] = shape(q_THC);
  const cached = shape(k_TKC)[0] - rows;
  const unseen = window === null ? 0 : Math.max(0, cached + 1 - window);
  const past = cached - unseen;
  let start = 0;
  const outputs = segments.map((length) => {
    const q_HSC = transpose(narrow(q_THC, 0, start, length), 0, 1);
    const k_KSC = transpose(narrow(k_TKC, 0, start + unseen, past + length), 0, 1);
    const v_KSC = transpose(narrow(v_TKC, 0, start + unseen, past + length), 0, 1);
    start += length;
    const fused = past === 0 && hasOp("aten::scaled_dot_product_attention");
    const out_HSC = fused ? fusedAttention(q_HSC, k_KSC, v_KSC, window) : plainAttention(q_HSC, k_KSC, v_KSC, past, window);
    return reshape(transpose(out_HSC, 0, 1), [length, heads * width]);
  });
  return outputs.length === 1 ? outputs[0] : cat(outputs, 0);
}

// What scores are added to: 0 where a query sees a key, -inf where it does not. Row r stands at column `past` + r.
function maskOf(columns: number, past: number, window: number | null, like: Tensor): Tensor {
  const closed_SS = full([columns - past, columns], Number.NEGATIVE_INFINITY, dtype(like), device(like));
  const ahead_SS = triu(closed_SS, past + 1);
  return window === null || window >= columns ? ahead_SS : add(ahead_SS, tril(closed_SS, past - window));
}

function fusedAttention(q_HSC: Tensor, k_KSC: Tensor, v_KSC: Tensor, window: number | null): Tensor {
  const [heads, rows, width] = shape(q_HSC);
  const repeated = (t_KSC: Tensor): Tensor => {
    const groups = shape(t_KSC)[0];
    if (groups === heads) return t_KSC;
    return reshape(expand(unsqueeze(t_KSC, 1), [groups, heads / groups, rows, width]), [heads, rows, width]);
  };
  const batch = (t: Tensor): Tensor => unsqueeze(t, 0);
  const mask = window === null || window >= rows ? null : maskOf(rows, 0, window, q_HSC);
  const out = flashAttention(batch(q_HSC), batch(repeated(k_KSC)), batch(repeated(v_KSC)), mask, 0, mask === null);
  return reshape(out, [heads, rows, width]);
}

// The query heads that share a key head are stacked as rows of one product, so keys are never repeated.
export function plainAttention(q_HSC: Tensor, k_KSC: Tensor, v_KSC: Tensor, past: number, window: number | null = null): Tensor {
  const [heads, rows, width] = shape(q_HSC);
  const [groups, columns] = shape(k_KSC);
  const shared = heads / groups;
  const type = dtype(q_HSC);
  const q_KNC = reshape(contiguous(q_HSC), [groups, shared * rows, width]);
  const mask_SS = maskOf(columns, past, window, q_HSC);
  const mask_NS = reshape(expand(unsqueeze(mask_SS, 0), [shared, rows, columns]), [1, shared * rows, columns]);
  const scores_KNS = baddbmm(mask_NS, q_KNC, contiguous(transpose(k_KSC, 1, 2)), 1, width ** -0.5);
  const weights_KNS = cast(softmax(scores_KNS, -1, type === "float64" ? "float64" : "float32"), type);
  return reshape(bmm(weights_KNS, contiguous(v_KSC)), [heads, rows, width]);
}
