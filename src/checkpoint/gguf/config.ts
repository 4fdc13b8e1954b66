// config.json for a GGUF file: its architecture's metadata under the names of Hugging Face, and llama.cpp's assumptions
// written out. Metadata that would change the network but has no such name is refused.
import { excerpt, UserError } from "../../errors.js";
import { ConfigReader, MOST } from "../../families/config-reader.js";
import type { GgufHeader } from "./header.js";
import type { Naming } from "./names.js";
import { readRopeScaling } from "./rope.js";

interface Facts {
  /** Reads metadata by `key("...")`. */
  read: ConfigReader;
  key: (name: string) => string;
  header: GgufHeader;
  layers: number;
}

interface Family {
  modelType: string;
  className: string;
  /** Whether llama.cpp rotates neighbouring pairs of features here, and stores queries and keys to match. */
  interleaved?: boolean;
  /** Keys that only this family has. */
  more(facts: Facts): Record<string, unknown>;
}

const USUAL = { prefix: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };
const MIXTRAL = { prefix: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" };

const FAMILIES: Record<string, Family> = {
  llama: {
    modelType: "llama",
    className: "LlamaForCausalLM",
    interleaved: true,
    more: ({ header: { tensors } }) => ({
      attention_bias: tensors.has("blk.0.attn_q.bias"),
      mlp_bias: tensors.has("blk.0.ffn_gate.bias"),
    }),
  },
  mixtral: {
    modelType: "mixtral",
    className: "MixtralForCausalLM",
    interleaved: true,
    more: ({ read, key }) => ({
      num_local_experts: read.integer(key("expert_count")),
      num_experts_per_tok: read.integer(key("expert_used_count")),
      sliding_window: read.holds(key("attention.sliding_window"))
        ? read.integer(key("attention.sliding_window"))
        : null,
    }),
  },
  qwen2: { modelType: "qwen2", className: "Qwen2ForCausalLM", more: () => ({ use_sliding_window: false }) },
  qwen3: {
    modelType: "qwen3",
    className: "Qwen3ForCausalLM",
    more: () => ({ attention_bias: false, use_sliding_window: false }),
  },
  qwen2moe: {
    modelType: "qwen2_moe",
    className: "Qwen2MoeForCausalLM",
    more: (facts) => ({
      ...qwenExperts(facts, false),
      shared_expert_intermediate_size: rowsOf(facts.header, "ffn_up_shexp", 0),
      use_sliding_window: false,
    }),
  },
  qwen3moe: {
    modelType: "qwen3_moe",
    className: "Qwen3MoeForCausalLM",
    more: (facts) => ({ ...qwenExperts(facts, true), attention_bias: false, use_sliding_window: false }),
  },
  olmoe: {
    modelType: "olmoe",
    className: "OlmoeForCausalLM",
    more: ({ read, key }) => ({
      num_experts: read.integer(key("expert_count")),
      num_experts_per_tok: read.integer(key("expert_used_count")),
      norm_topk_prob: read.boolean(key("expert_weights_norm"), false),
      clip_qkv: read.holds(key("attention.clamp_kqv")) ? read.positive(key("attention.clamp_kqv")) : null,
    }),
  },
};

/** Metadata of networks other than ours: without effect at 0 or 1, refused with other values. */
const FOREIGN = [
  "expert_weights_scale",
  "expert_gating_func",
  "attention.scale",
  "attention.temperature_scale",
  "attn_logit_softcapping",
  "final_logit_softcapping",
  "logit_scale",
  "residual_scale",
  "embedding_scale",
];

/**
 * config.json of the file, and how its tensors are named. Errors: UserError for an unknown architecture, and for
 * missing metadata.
 */
export function readGgufConfig(header: GgufHeader): { config: Record<string, unknown>; naming: Naming } {
  const { path, metadata, tensors } = header;
  const read = new ConfigReader(metadata, path);
  const prefix = metadata["general.architecture"];
  const key = (name: string): string => `${String(prefix)}.${name}`;
  // Mixtral is a llama with experts.
  const architecture = prefix === "llama" && read.integer(key("expert_count"), 0, 0) > 0 ? "mixtral" : prefix;
  if (typeof architecture !== "string" || !Object.hasOwn(FAMILIES, architecture) || prefix === "mixtral") {
    const known = Object.keys(FAMILIES).filter((name) => name !== "mixtral");
    throw new UserError(
      `${path}: "general.architecture" is ${excerpt(prefix)} (expected ${known.join(", ")}). This architecture is not supported.`,
    );
  }
  const family = FAMILIES[architecture];
  for (const name of FOREIGN) read.only(key(name), [0, 1]);
  const [hiddenSize, heads] = [read.integer(key("embedding_length")), read.integer(key("attention.head_count"))];
  const keyValueHeads = read.integer(key("attention.head_count_kv"), heads);
  const headDim = read.integer(key("attention.key_length"), hiddenSize / heads);
  for (const name of ["attention.value_length", "rope.dimension_count"]) read.only(key(name), [headDim]);
  const layers = read.integer(key("block_count"), undefined, 1, MOST.layers);
  const theta = read.positive(key("rope.freq_base"), 10_000);
  const config = {
    architectures: [family.className],
    model_type: family.modelType,
    vocab_size: rowsOf(header, "token_embd"),
    hidden_size: hiddenSize,
    intermediate_size: read.integer(key("feed_forward_length"), read.integer(key("expert_feed_forward_length"), 0, 0)),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    head_dim: headDim,
    hidden_act: "silu",
    max_position_embeddings: read.integer(key("context_length")),
    rms_norm_eps: read.positive(key("attention.layer_norm_rms_epsilon")),
    rope_theta: theta,
    rope_scaling: readRopeScaling({ read, key, header, theta, headDim }),
    tie_word_embeddings: !tensors.has("output.weight"),
    ...endTokens(metadata),
    ...family.more({ read, key, header, layers }),
  };
  const naming: Naming = {
    routed: architecture === "mixtral" ? MIXTRAL : USUAL,
    interleaved: family.interleaved ? { heads, keyValueHeads } : null,
  };
  return { config, naming };
}

/** What the two Qwen families with experts have in common; `norm`: whether llama.cpp rescales the family's gates. */
function qwenExperts({ read, key, header, layers }: Facts, norm: boolean): Record<string, unknown> {
  const dense = Array.from({ length: layers }, (_, i) => i).filter(
    (i) => !header.tensors.has(`blk.${i}.ffn_gate_inp.weight`),
  );
  const sparse = Array.from({ length: layers }, (_, i) => i).find((i) => !dense.includes(i));
  if (sparse === undefined)
    throw new UserError(
      `${header.path}: blk.0.ffn_gate_inp.weight is missing (expected a router in at least one layer).`,
    );
  return {
    num_experts: read.integer(key("expert_count")),
    num_experts_per_tok: read.integer(key("expert_used_count")),
    moe_intermediate_size: rowsOf(header, "ffn_up_exps", sparse),
    norm_topk_prob: read.boolean(key("expert_weights_norm"), norm),
    decoder_sparse_step: 1,
    mlp_only_layers: dense,
  };
}

/** Number of rows of a matrix, which metadata need not state. */
function rowsOf({ path, tensors }: GgufHeader, stem: string, layer?: number): number {
  const name = `${layer === undefined ? "" : `blk.${layer}.`}${stem}.weight`;
  const rows = tensors.get(name)?.shape.at(-2);
  if (rows === undefined) throw new UserError(`${path}: the tensor ${name} is missing. Download the file again.`);
  return rows;
}

/** Tokens that begin and end a text; a chat may have its own token for the end of a turn. */
function endTokens(metadata: GgufHeader["metadata"]): Record<string, unknown> {
  const id = (name: string): unknown => metadata[`tokenizer.ggml.${name}_token_id`];
  const ends = [...new Set([id("eos"), id("eot")])].filter((each) => each !== undefined);
  return { bos_token_id: id("bos") ?? null, eos_token_id: ends.length > 1 ? ends : (ends[0] ?? null) };
}
