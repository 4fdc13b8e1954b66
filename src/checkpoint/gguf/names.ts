// GGUF's tensor names as Hugging Face's. Experts that are stacked in one tensor become one tensor each, and rows of
// heads that llama.cpp reorders for its rotary embedding return to their places.
import type { GgufTensor } from "./header.js";

/** One tensor under its Hugging Face name: a whole GGUF tensor, or one expert of it. */
export interface NamedPiece {
  name: string;
  source: GgufTensor;
  shape: number[];
  /** Which of the stacked experts; null: the whole tensor. */
  expert: number | null;
  /** Number of heads whose rows are interleaved, see `restoreHeads`; 0: none. */
  interleavedHeads: number;
}

export interface Naming {
  /** Names of the routed layer and of an expert's matrices. */
  routed: { prefix: string; gate: string; up: string; down: string };
  /** Numbers of heads of queries and keys if llama.cpp interleaves them; else null. */
  interleaved: { heads: number; keyValueHeads: number } | null;
}

const OUTER: Record<string, string> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
};
const BLOCK: Record<string, string> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
  ffn_gate_inp_shexp: "mlp.shared_expert_gate",
  ffn_gate_shexp: "mlp.shared_expert.gate_proj",
  ffn_up_shexp: "mlp.shared_expert.up_proj",
  ffn_down_shexp: "mlp.shared_expert.down_proj",
};
/** Settings in the form of a tensor, which rope.ts reads. */
export const ROPE_FACTORS = "rope_freqs.weight";

/**
 * The pieces of a GGUF tensor. One without a Hugging Face name keeps its own, so that the loader refuses it by name.
 */
export function namePieces(source: GgufTensor, naming: Naming): NamedPiece[] {
  const whole = (name: string, shape = source.shape, interleavedHeads = 0): NamedPiece[] => [
    { name, source, shape, expert: null, interleavedHeads },
  ];
  if (source.name === ROPE_FACTORS) return [];
  const outer = /^(\w+)\.(weight|bias)$/.exec(source.name);
  if (outer && Object.hasOwn(OUTER, outer[1])) return whole(`${OUTER[outer[1]]}.${outer[2]}`);
  const inner = /^blk\.(\d+)\.(\w+?)(?:\.(\d+))?\.(weight|bias)$/.exec(source.name);
  if (!inner) return whole(source.name);
  const [, layer, stem, single, kind] = inner;
  const named = (name: string): string => `model.layers.${layer}.${name}.${kind}`;
  const { prefix, ...matrices } = naming.routed;
  if (stem === "ffn_gate_inp") return whole(named(`${prefix}.gate`));
  const matrix = matrices[/^ffn_(gate|up|down)(_exps)?$/.exec(stem)?.[1] as keyof typeof matrices];
  // Files made before 2024-04 have one tensor per expert.
  if (matrix && single !== undefined) return whole(named(`${prefix}.experts.${single}.${matrix}`));
  if (matrix && stem.endsWith("_exps")) {
    const [experts, ...shape] = source.shape;
    return Array.from({ length: experts }, (_, expert) => ({
      name: named(`${prefix}.experts.${expert}.${matrix}`),
      source,
      shape,
      expert,
      interleavedHeads: 0,
    }));
  }
  if (!Object.hasOwn(BLOCK, stem) || single !== undefined) return whole(source.name);
  // The shared expert's gate is one row, which GGUF stores as a vector.
  if (stem === "ffn_gate_inp_shexp") return whole(named(BLOCK[stem]), [1, source.shape.at(-1) as number]);
  const { interleaved } = naming;
  const heads = interleaved && { attn_q: interleaved.heads, attn_k: interleaved.keyValueHeads }[stem];
  return whole(named(BLOCK[stem]), source.shape, heads || 0);
}
