// Fused attention: for one document, and on a GPU for all documents packed in a row.
import { contiguous } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { realEngine } from "../shadow/real-engine.js";
import { drop, make, type Value } from "../shadow/values.js";
import { type N, newerOp, type T } from "./row.js";
import { native } from "../binding.js";
import { deviceIndex, isCpu } from "../device-name.js";

/** Number of an H100; other cards have 40 to 192. */
const MULTIPROCESSORS = 132;

const up = (size: number, unit: number): number => Math.ceil(size / unit) * unit;

/**
 * The deterministic backward pass on a GPU adds up gradients of queries in as many parts as keep its processors busy.
 */
const flashSums = (documents: number, rows: number, heads: number, width: number, device: string): Value =>
  make(
    [Math.ceil(MULTIPROCESSORS / (documents * heads)), rows, heads, up(width, width <= 128 ? 32 : 64)],
    "float32",
    device,
  );

// The result has the layout [B, S, H, C]; one logarithm for each query and head is kept beside queries, keys and
// values.
export const flashAttention = newerOp<(q: T, k: T, v: T, mask: T | null, dropout: 0, causal: boolean) => T>(
  "aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0., bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
  (q, k, v) => {
    const [documents, heads, tokens, width] = q.sizes;
    const out = make(q.sizes, q.dtype, q.device, [tokens * heads * width, width, heads * width, 1]);
    const sums = make([documents, heads, tokens], "float32", q.device);
    const result = record(out, [q, k, v], [q, k, v, out, sums], () => {
      const work = isCpu(q.device) ? null : flashSums(documents, documents * up(tokens, 128), heads, width, q.device);
      const made = [q, k, v].map((input) => make(input.sizes, input.dtype, input.device));
      drop(work);
      return made;
    });
    drop(sums);
    return result;
  },
);
/** The same on a CPU and without a graph; also returns the logarithm of the sum for each query and head. */
export const flashForward = newerOp<(q: T, k: T, v: T, dropout: 0, causal: boolean) => [out: T, sums: T]>(
  "aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, float dropout_p=0., bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)",
  (q) => {
    const [documents, heads, tokens, width] = q.sizes;
    const out = make(q.sizes, q.dtype, q.device, [tokens * heads * width, width, heads * width, 1]);
    return [out, make([documents, heads, tokens], q.dtype === "float64" ? "float64" : "float32", q.device)];
  },
);

/** Its gradients, from `out` and `sums` of the forward pass. */
export const flashBackward = newerOp<
  (dOut: T, q: T, k: T, v: T, out: T, sums: T, dropout: 0, causal: boolean) => [dq: T, dk: T, dv: T]
>(
  "aten::_scaled_dot_product_flash_attention_for_cpu_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)",
  (_dOut, q, k, v) => [q, k, v].map(({ sizes, dtype, device }) => make(sizes, dtype, device)) as [Value, Value, Value],
);

/** Tokens of a tile of the operators below (native/operators/attention.cpp). */
const TILE = 128;

/**
 * Workspace of the threads, at most one for each key head of each document: `partsOf` gives the bytes of a thread's
 * parts, each rounded up to a multiple of 64.
 */
function headSpace(k: Value, documents: readonly N[], partsOf: (tokens: number, width: number) => number[]): Value {
  const [, groups, width] = k.sizes;
  const tokens = up(Math.max(0, ...documents), TILE);
  const bytes = partsOf(tokens, width).reduce((all, part) => all + up(part, 64), 0);
  return make([Math.min(realEngine().threads, documents.length * groups), bytes], "uint8", k.device);
}

/**
 * Causal attention of documents in a row, [T, H, C], and the logarithm of each query's sum of exponentials [H, T]; not
 * part of a graph. Exists if a CPU multiplies bfloat16 and libtorch offers small products. There may be fewer key heads
 * than query heads; C is a multiple of 16.
 */
export const documentAttention = newerOp<(q: T, k: T, v: T, documents: readonly N[]) => [out: T, sums: T]>(
  "revmoe::document_attention(Tensor q, Tensor k, Tensor v, int[] documents) -> (Tensor out, Tensor sums)",
  (q, k, _v, documents) => {
    const [tokens, heads] = q.sizes;
    const made: [Value, Value] = [make(q.sizes, q.dtype, q.device), make([heads, tokens], "float32", q.device)];
    drop(
      headSpace(k, documents, (all, width) => [
        ...[2 * all * width, 2 * all * width, 2 * TILE * width, 2 * TILE * TILE],
        ...[4 * TILE * TILE, 4 * TILE * width, 4 * TILE, 4 * TILE],
      ]),
    );
    return made;
  },
);

/** Its gradients, from `out` and `sums` of the forward pass. */
export const documentAttentionGradient = newerOp<
  (dOut: T, q: T, k: T, v: T, out: T, sums: T, documents: readonly N[]) => [dq: T, dk: T, dv: T]
>(
  "revmoe::document_attention_gradient(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor sums, int[] documents) -> (Tensor dq, Tensor dk, Tensor dv)",
  (dOut, q, k, v, _out, _sums, documents) => {
    const dense = contiguous(dOut);
    const made = [q, k, v].map(({ sizes, dtype, device }) => make(sizes, dtype, device)) as [Value, Value, Value];
    drop(
      headSpace(k, documents, (all, width) => [
        ...Array.from({ length: 4 }, () => 2 * all * width),
        ...Array.from({ length: 3 }, () => 2 * TILE * width),
        ...Array.from({ length: 3 }, () => 2 * TILE * TILE),
        ...[4 * TILE * TILE, 4 * TILE * TILE],
        ...Array.from({ length: 3 }, () => 4 * all * width),
        ...[4 * all, 4 * all],
      ]),
    );
    drop(dense);
    return made;
  },
);

const PACKED = "aten::_flash_attention_forward";
const packs = new Map<string, boolean>();

/**
 * Whether the operator below runs on a GPU: libtorch's form with windows (2.5 and later), on Ampere cards or later. A
 * plan assumes such a card.
 */
export function packsDocuments(on: string): boolean {
  if (!native.hasOp(PACKED)) return false;
  if (!native.hasElements()) return true;
  const known = packs.get(on) ?? (hasWindows() && native.gpuFacts(deviceIndex(on)).capability >= 80);
  packs.set(on, known);
  return known;
}

const hasWindows = (): boolean => native.schema(PACKED)?.includes("window_size_left") === true;

function packedGradients(q: Value, k: Value, v: Value, ends: Value): Value[] {
  const [tokens, heads, width] = q.sizes;
  const documents = ends.count - 1;
  const rows = tokens + 128 * documents;
  const work = flashSums(documents, rows, heads, width, q.device);
  const dots = make([heads, rows], "float32", q.device);
  const made = [q, k, v].map((input) => make(input.sizes, input.dtype, input.device));
  // Gradients of keys and values for each head, before they are added up for each group.
  const wide = k.sizes[1] === heads ? [] : [k, v].map(() => make(q.sizes, q.dtype, q.device));
  for (const each of [work, dots, ...wide]) drop(each);
  return made;
}

/**
 * softmax(s q k^T + causal mask) v of documents in a row: q [T, H, C], k and v [T, K, C] in 16 bits, K a divisor of H.
 * `ends` (int32) are 0 and the end of each document; `longest` is the largest number of tokens. `left` and `right`: how
 * many keys before and after its own a query sees; -1: all. Of the returned tensors, the first is the result.
 */
export const packedFlashAttention = newerOp<
  (
    ...args: [
      ...[q: T, k: T, v: T, ends: T, endsOfKeys: T, longest: N, longestKeys: N, dropout: 0, causal: boolean],
      ...[debugMask: false, scale: N | null, left: N, right: N],
    ]
  ) => [out: T, sums: T, state: T, unused: T, mask: T]
>(
  "aten::_flash_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, Tensor? cum_seq_k, int max_q, int max_k, float dropout_p, bool is_causal, bool return_debug_mask, *, float? scale=None, int? window_size_left=None, int? window_size_right=None, Tensor? seqused_k=None, Tensor? alibi_slopes=None) -> (Tensor output, Tensor softmax_logsumexp, Tensor rng_state, Tensor unused, Tensor debug_attn_mask)",
  (q, k, v, ends) => {
    const [tokens, heads] = q.sizes;
    const out = make(q.sizes, q.dtype, q.device);
    const sums = make([heads, tokens], "float32", q.device);
    const rest = [make([2], "int64", q.device), make([], "int64", q.device), make([0], q.dtype, q.device)];
    const result = record(out, [q, k, v], [q, k, v, out, sums, ends, ...rest.slice(0, 2)], () =>
      packedGradients(q, k, v, ends),
    );
    return [result, sums, ...rest] as [Value, Value, Value, Value, Value];
  },
);

/** Its gradients, from `out` and `sums` of the forward pass; `state` and `unused` are the forward pass's, too. */
export const packedFlashBackward = newerOp<
  (
    ...args: [
      ...[dOut: T, q: T, k: T, v: T, out: T, sums: T, ends: T, endsOfKeys: T, longest: N, longestKeys: N],
      ...[dropout: 0, causal: boolean, state: T, unused: T, scale: N | null, left: N, right: N],
    ]
  ) => [dq: T, dk: T, dv: T]
>(
  "aten::_flash_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, int max_q, int max_k, float dropout_p, bool is_causal, Tensor rng_state, Tensor unused, *, float? scale=None, int? window_size_left=None, int? window_size_right=None) -> (Tensor, Tensor, Tensor)",
  (_dOut, q, k, v, _out, _sums, ends) => packedGradients(q, k, v, ends) as [Value, Value, Value],
);
