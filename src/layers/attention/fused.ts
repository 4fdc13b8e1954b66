// The fused forms of attention. On a GPU one call of the engine's covers all documents, with or without a window.
// Otherwise, without a window, one call of the addon's covers all documents on a CPU that multiplies bfloat16, else one
// of the engine's covers consecutive documents of one length. Results belong to the caller's scope.
import {
  cat,
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
import { customFunction, junction } from "../../torch/graph.js";
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
 * divides rows among threads, where the addon's form gives each thread heads of keys.
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

const ON_CPU: SinkForm = {
  forward: (q, k, v) => {
    const [out, sums] = flashForward(q, k, v, 0, true);
    return { out, sums, rest: [] };
  },
  gradient: (dOut, [q, k, v], { out, sums }) => flashBackward(dOut, q, k, v, out, sums, 0, true),
  headsFirst: (t_BHSC) => t_BHSC,
};

// Consecutive documents of one length share a call. A call for each would take a part of every tensor, and its backward
// pass would fill the rest of each with zeros.
const byDocument: FusedAttention = (q_THC, k_TKC, v_TKC, { segments }, sinks_H) => {
  const [heads, width] = shape(q_THC).slice(1);
  const runs = runsOf(segments);
  const share = (t: Tensor): Tensor => (sinks_H !== null && runs.length > 1 ? junction(t) : t);
  const [q, k, v] = [q_THC, k_TKC, v_TKC].map(share);
  const sinks_H1 = sinks_H && share(sinksFor(q_THC, sinks_H));
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
      const of: [Tensor, Tensor, Tensor] = [documents(q), repeated(k), repeated(v)];
      const out_BHSC =
        sinks_H1 === null ? flashAttention(...of, null, 0, true) : withSinks(of, reshape(sinks_H1, [-1, 1]), ON_CPU);
      return reshape(transpose(out_BHSC, 1, 2), [count * length, heads, width]);
    }),
  );
  return outputs.length === 1 ? outputs[0] : cat(outputs, 0);
};

/** Groups consecutive documents of one length; `start` is the first token of a group. */
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
