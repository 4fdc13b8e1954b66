// Causal self-attention over packed documents: grouped key/value heads, an optional sliding window, softmax in float32. Uses one of the
// engine's fused forms where libtorch has one for the case (without cache and sinks): on a GPU one call for all documents, else without
// a window one for documents of one length that follow each other; else tiles. Scores of all queries against all keys never exist.
import {
  cat,
  expand,
  flashAttention,
  hasOp,
  mulScalar,
  narrow,
  packedFlashAttention,
  packsDocuments,
  reshape,
  transpose,
  unsqueeze,
} from "../../torch/ops.js";
import { endsOf } from "../../model/context.js";
import { isCpu } from "../../torch/device.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, shape, type Tensor, zeros } from "../../torch/tensor.js";
import { tiledAttention } from "./tiled.js";

/**
 * softmax(s q k^T + causal mask) v within each document, heads side by side: [T, H*V], V the width of values, which may be another
 * than that of queries and keys. With a `window`, a query sees so many keys, its own the last. With a cache there is one document,
 * and the queries are its last tokens. The `scale` s is 1 / sqrt(C) unless it is given. `sinks_H` are a score for each head that its
 * queries have beside those of keys, and whose share of the softmax goes nowhere. `ends_S`: see `Context`; made here where it is not given.
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
  // The engine's own forms divide by sqrt(C).
  if (scale !== undefined && scale !== width ** -0.5)
    return scope(() =>
      attend(mulScalar(q_THC, scale * width ** 0.5), k_UKC, v_UKC, segments, window, undefined, sinks_H, ends_S),
    );
  const inOne = shape(k_UKC)[0] === tokens && sinks_H === null && valueWidth <= width;
  const sees = segments.every((length) => window === null || window >= length) ? null : window;
  const fused = !inOne
    ? null
    : hasPacked(q_THC)
      ? packedAttention
      : sees === null && hasFlash(q_THC)
        ? byDocument
        : null;
  const out_THC = fused
    ? narrowed(fused(q_THC, k_UKC, widened(v_UKC, width), segments, sees, ends_S), valueWidth)
    : tiledAttention(q_THC, k_UKC, v_UKC, segments, window, sinks_H);
  return reshape(out_THC, [tokens, heads * valueWidth]);
}

/** With zeros behind each head's values: the fused form wants them as wide as keys. */
function widened(v_UKC: Tensor, width: number): Tensor {
  const [keys, groups, own] = shape(v_UKC);
  if (own === width) return v_UKC;
  return scope(() => cat([v_UKC, zeros([keys, groups, width - own], dtype(v_UKC), device(v_UKC))], 2));
}

const narrowed = (out_THC: Tensor, width: number): Tensor =>
  shape(out_THC)[2] === width ? out_THC : narrow(out_THC, 2, 0, width);

const isHalf = (q: Tensor): boolean => dtype(q) === "bfloat16" || dtype(q) === "float16";

/** On a GPU, fused attention in float32 is another kernel, whose backward pass has other bits each time. */
const hasFlash = (q: Tensor): boolean => hasOp("aten::scaled_dot_product_attention") && (isCpu(device(q)) || isHalf(q));

/** Of heads that its kernels know, which read from multiples of 16 bytes on. */
const hasPacked = (q_THC: Tensor): boolean => {
  const width = shape(q_THC)[2];
  const fits = !isCpu(device(q_THC)) && isHalf(q_THC) && width % 8 === 0 && width <= 256;
  return fits && packsDocuments(device(q_THC));
};

function packedAttention(
  q_THC: Tensor,
  k_TKC: Tensor,
  v_TKC: Tensor,
  segments: number[],
  window: number | null,
  ends_S: Tensor | null,
): Tensor {
  return scope(() => {
    const ends = ends_S ?? endsOf(segments, device(q_THC));
    const longest = segments.reduce((most, own) => Math.max(most, own), 0);
    const [left, right] = window === null ? [-1, -1] : [window - 1, 0];
    const lengths = [ends, ends, longest, longest] as const;
    return packedFlashAttention(q_THC, k_TKC, v_TKC, ...lengths, 0, true, false, null, left, right)[0];
  });
}

// Documents of one length that follow one another go together: each call would take a part of every tensor, and its way back zeros around that.
function byDocument(q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor, segments: number[]): Tensor {
  const [heads, width] = shape(q_THC).slice(1);
  const runs = runsOf(segments);
  const outputs = runs.map(({ start, length, count }) =>
    scope(() => {
      const documents = (t_TKC: Tensor): Tensor => {
        const run = runs.length === 1 ? t_TKC : narrow(t_TKC, 0, start, count * length);
        return transpose(reshape(run, [count, length, ...shape(t_TKC).slice(1)]), 1, 2);
      };
      const repeated = (t_TKC: Tensor): Tensor => {
        const groups = shape(t_TKC)[1];
        const t_BKSC = documents(t_TKC);
        if (groups === heads) return t_BKSC;
        return reshape(expand(unsqueeze(t_BKSC, 2), [count, groups, heads / groups, length, width]), [
          count,
          heads,
          length,
          width,
        ]);
      };
      const out_BHSC = flashAttention(documents(q_THC), repeated(k_TKC), repeated(v_TKC), null, 0, true);
      return reshape(transpose(out_BHSC, 1, 2), [count * length, heads, width]);
    }),
  );
  return outputs.length === 1 ? outputs[0] : cat(outputs, 0);
}

/** Documents of one length that follow one another. */
export function runsOf(segments: number[]): { start: number; length: number; count: number }[] {
  const runs: { start: number; length: number; count: number }[] = [];
  let start = 0;
  for (const length of segments) {
    const last = runs.at(-1);
    if (last?.length === length) last.count++;
    else runs.push({ start, length, count: 1 });
    start += length;
  }
  return runs;
}
