// Fused attention.
import { record } from "../shadow/gradients.js";
import { drop, make, type Value } from "../shadow/values.js";
import { newerOp, type T } from "./row.js";
import { isCpu } from "../device-name.js";

/** Of an H100; other cards have from 40 to 192. */
const MULTIPROCESSORS = 132;

/** On a GPU, the backward pass with the same bits each time adds up gradients of queries in as many parts as keep its processors busy. */
function flashSums({ sizes: [documents, heads, tokens, width], device }: Value): Value {
  const up = (size: number, unit: number): number => Math.ceil(size / unit) * unit;
  const parts = Math.ceil(MULTIPROCESSORS / (documents * heads));
  return make([parts, documents, up(tokens, 128), heads, up(width, width <= 128 ? 32 : 64)], "float32", device);
}

// The result lies [B, S, H, C]; a logarithm per query and head is kept beside queries, keys and values.
export const flashAttention = newerOp<(q: T, k: T, v: T, mask: T | null, dropout: 0, causal: boolean) => T>(
  "aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0., bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
  (q, k, v) => {
    const [documents, heads, tokens, width] = q.sizes;
    const out = make(q.sizes, q.dtype, q.device, [tokens * heads * width, width, heads * width, 1]);
    const sums = make([documents, heads, tokens], "float32", q.device);
    const result = record(out, [q, k, v], [q, k, v, out, sums], () => {
      const work = isCpu(q.device) ? null : flashSums(q);
      const made = [q, k, v].map((input) => make(input.sizes, input.dtype, input.device));
      drop(work);
      return made;
    });
    drop(sums);
    return result;
  },
);
