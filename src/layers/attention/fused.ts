// The fused forms of attention. On a GPU one call of the engine's covers all documents, with or without a window.
// Otherwise, without a window, one call of the addon's covers all documents on a CPU that multiplies bfloat16, else one
// of the engine's covers consecutive documents of one length. Results belong to the caller's scope.
import {
  cat,
  contiguous,
  documentAttention,
  documentAttentionGradient,
  expand,
  flashAttention,
  flashBackward,
  flashForward,
  hasOp,
  narrow,
  packedFlashAttention,
  packedFlashBackward,
  packsDocuments,
  reshape,
  transpose,
  unsqueeze,
} from "../../torch/ops.js";
import { endsOf } from "../../model/context.js";
import { engineInfo, isCpu } from "../../torch/device.js";
import { customFunction } from "../../torch/graph.js";
import { wantsReference } from "../../torch/kernels/kernels.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, shape, type Tensor } from "../../torch/tensor.js";
import { type SinkForm, sinksFor, withSinks } from "./sinks.js";

/** Documents end to end; `ends_S`: see `Context`; made here if it is not given. */
interface Documents {
  segments: number[];
  window: number | null;
  ends_S: Tensor | null;
}

/** Like `attend`, but the result is [T, H, C], and keys and values are of the same tokens and one width. */
type FusedAttention = (
  q_THC: Tensor,
  k_TKC: Tensor,
  v_TKC: Tensor,
  documents: Documents,
  sinks_H: Tensor | null,
) => Tensor;

/** The fused form for this case; null if there is none. `keyHeads` counts those of all documents. */
export function fusedAttention(
  q_THC: Tensor,
  { sees, hasSinks, keyHeads }: { sees: number | null; hasSinks: boolean; keyHeads: number },
): FusedAttention | null {
  if (hasPacked(q_THC)) return packedAttention;
  if (sees === null && hasAddonForm(q_THC, keyHeads)) return addonAttention;
  return sees === null && (hasSinks ? hasFlashWithSinks(q_THC) : hasFlash(q_THC)) ? byDocument : null;
}

const isHalf = (q: Tensor): boolean => dtype(q) === "bfloat16" || dtype(q) === "float16";

/** On a GPU, float32 would use another fused kernel, whose backward pass has other bits each time. */
const hasFlash = (q: Tensor): boolean => hasOp("aten::scaled_dot_product_attention") && (isCpu(device(q)) || isHalf(q));

const hasFlashWithSinks = (q: Tensor): boolean =>
  isCpu(device(q)) && hasOp("aten::_scaled_dot_product_flash_attention_for_cpu");

/** Whether the packed kernels know heads like these. They read from multiples of 16 bytes. */
const hasPacked = (q_THC: Tensor): boolean => {
  const width = shape(q_THC)[2];
  const fits = !isCpu(device(q_THC)) && isHalf(q_THC) && width % 8 === 0 && width <= 256;
  return fits && packsDocuments(device(q_THC));
};

/**
 * The engine's own form for a CPU multiplies through MKL, which on some CPUs turns bfloat16 into float32 first; but it
 * divides rows among threads, where the addon's form gives each thread heads of keys. So with more threads bits may be
 * those of another form.
 */
const hasAddonForm = (q_THC: Tensor, keyHeads: number): boolean =>
  isCpu(device(q_THC)) &&
  keyHeads >= engineInfo().threads &&
  dtype(q_THC) === "bfloat16" &&
  shape(q_THC)[2] % 16 === 0 &&
  hasOp("revmoe::document_attention") &&
  !wantsReference();

const addonAttention: FusedAttention = (q_THC, k_TKC, v_TKC, { segments }, sinks_H) => {
  const form: SinkForm = {
    forward: (q, k, v) => {
      const [out, sums] = documentAttention(q, k, v, segments);
      return { out, sums, rest: [] };
    },
    gradient: (dOut, [q, k, v], { out, sums }) => documentAttentionGradient(dOut, q, k, v, out, sums, segments),
    headsFirst: (t_THC) => transpose(t_THC, 0, 1),
  };
  const inputs: [Tensor, Tensor, Tensor] = [q_THC, k_TKC, v_TKC];
  if (sinks_H !== null) return scope(() => withSinks(inputs, sinksFor(q_THC, sinks_H), form));
  return customFunction(
    inputs,
    () => {
      const { out, sums } = form.forward(...inputs);
      return { output: out, saved: [sums] };
    },
    (dOut, out, [sums]) => form.gradient(dOut, inputs, { out, sums, rest: [] }),
  );
};

const packedAttention: FusedAttention = (q_THC, k_TKC, v_TKC, { segments, window, ends_S }, sinks_H) =>
  scope(() => {
    const ends = ends_S ?? endsOf(segments, device(q_THC));
    const longest = segments.reduce((most, own) => Math.max(most, own), 0);
    const [left, right] = window === null ? [-1, -1] : [window - 1, 0];
    const lengths = [ends, ends, longest, longest] as const;
    const form: SinkForm = {
      forward: (q, k, v) => {
        const [out, sums, ...rest] = packedFlashAttention(q, k, v, ...lengths, 0, true, false, null, left, right);
        return { out, sums, rest: rest.slice(0, 2) };
      },
      gradient: (dOut, [q, k, v], { out, sums, rest: [state, unused] }) =>
        packedFlashBackward(dOut, q, k, v, out, sums, ...lengths, 0, true, state, unused, null, left, right),
      headsFirst: (t_THC) => transpose(t_THC, 0, 1),
    };
    if (sinks_H !== null) return withSinks([q_THC, k_TKC, v_TKC], sinksFor(q_THC, sinks_H), form);
    return packedFlashAttention(q_THC, k_TKC, v_TKC, ...lengths, 0, true, false, null, left, right)[0];
  });

interface DocumentRun {
  /** The first token. */
  start: number;
  length: number;
  /** How many documents of this length. */
  count: number;
}

/** Rows of a run's documents, [B, H, S, C]. */
const documentsOf = (t_THC: Tensor, { start, length, count }: DocumentRun): Tensor =>
  transpose(reshape(narrow(t_THC, 0, start, count * length), [count, length, ...shape(t_THC).slice(1)]), 1, 2);

/** The opposite, [B S, H, C]. */
const tokensOf = (t_BHSC: Tensor): Tensor => {
  const [count, heads, length, width] = shape(t_BHSC);
  return reshape(transpose(t_BHSC, 1, 2), [count * length, heads, width]);
};

/** Each head of keys or values for all heads of queries that share it. */
function repeated(t_TKC: Tensor, heads: number): Tensor {
  const [tokens, groups, width] = shape(t_TKC);
  if (groups === heads) return t_TKC;
  return reshape(expand(unsqueeze(t_TKC, 2), [tokens, groups, heads / groups, width]), [tokens, heads, width]);
}

// Consecutive documents of one length share a call. A call for each would take a part of every tensor, and its backward
// pass would fill the rest of each with zeros.
const byDocument: FusedAttention = (q_THC, k_TKC, v_TKC, { segments }, sinks_H) => {
  const [, heads] = shape(q_THC);
  const runs = runsOf(segments);
  return scope(() => {
    const inputs: [Tensor, Tensor, Tensor] = [q_THC, repeated(k_TKC, heads), repeated(v_TKC, heads)];
    if (sinks_H !== null) return withSinks(inputs, sinksFor(q_THC, sinks_H), flashByRun(runs));
    const outputs = runs.map((run) => {
      const [q, k, v] = inputs.map((t) => documentsOf(t, run));
      return tokensOf(flashAttention(q, k, v, null, 0, true));
    });
    return joined(outputs, 0);
  });
};

/** All runs in one function, since what queries, keys and values are made of can be differentiated once. */
const flashByRun = (runs: readonly DocumentRun[]): SinkForm => ({
  forward: (...inputs) => {
    const made = runs.map((run) => {
      const [q, k, v] = inputs.map((t) => documentsOf(t, run));
      const [out, sums_BHS] = flashForward(q, k, v, 0, true);
      const sums_HBS = transpose(sums_BHS, 0, 1);
      return { out: tokensOf(out), sums: reshape(sums_HBS, [shape(sums_HBS)[0], run.count * run.length]) };
    });
    const out = joined(
      made.map((each) => each.out),
      0,
    );
    const sums = joined(
      made.map((each) => each.sums),
      1,
    );
    return { out, sums, rest: [] };
  },
  gradient: (dOut, inputs, { out, sums }) => {
    const made = runs.map((run) => {
      const [d, q, k, v, o] = [dOut, ...inputs, out].map((t) => documentsOf(t, run));
      const sums_HT = narrow(sums, 1, run.start, run.count * run.length);
      const sums_HBS = reshape(sums_HT, [shape(sums)[0], run.count, run.length]);
      return flashBackward(d, q, k, v, o, contiguous(transpose(sums_HBS, 0, 1)), 0, true).map(tokensOf);
    });
    return inputs.map((_, i) =>
      joined(
        made.map((each) => each[i]),
        0,
      ),
    );
  },
  headsFirst: (t_THC) => transpose(t_THC, 0, 1),
});

const joined = (parts: Tensor[], dim: number): Tensor => (parts.length === 1 ? parts[0] : cat(parts, dim));

/** Groups consecutive documents of one length. */
export function runsOf(segments: number[]): DocumentRun[] {
  const runs: DocumentRun[] = [];
  let start = 0;
  for (const length of segments) {
    const last = runs.at(-1);
    if (last?.length === length) last.count++;
    else runs.push({ start, length, count: 1 });
    start += length;
  }
  return runs;
}
