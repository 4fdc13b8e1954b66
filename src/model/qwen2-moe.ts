// The family of Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B (model_type "qwen2_moe"): attention with biases on query, key and
// value; softmax over all experts before the top k; a shared expert behind its own sigmoid gate; dense layers between
// sparse ones by `decoder_sparse_step` and `mlp_only_layers`. Agrees with modeling_qwen2_moe.py of transformers.
import { add, cast, linear, mul, reshape, sigmoid } from "../torch/ops.js";
import { dtype, type Tensor } from "../torch/tensor.js";
import type { Architecture, ModelConfig, ParameterSpec, Weights } from "./architecture.js";
import { attend, rotate } from "./attention.js";
import { ConfigReader } from "./config.js";
import type { Context } from "./context.js";
import { gatedLinear, routedExperts } from "./moe.js";
import { rmsNorm } from "./norm.js";

function readConfig(source: Record<string, unknown>, where: string): ModelConfig {
  const read = new ConfigReader(source, where);
  read.only("hidden_act", ["silu"]);
  read.only("attention_dropout", [0]);
  read.only("use_sliding_window", [false]);
  read.only("qkv_bias", [true]);
  const hiddenSize = read.integer("hidden_size");
  const numHeads = read.integer("num_attention_heads");
  const numKeyValueHeads = read.integer("num_key_value_heads", numHeads);
  const headDim = read.integer("head_dim", hiddenSize / numHeads);
  if (numHeads % numKeyValueHeads !== 0) read.fail("num_key_value_heads", `a divisor of num_attention_heads, ${numHeads}`);
  if (headDim % 2 !== 0) read.fail("head_dim", "an even number");
  const numLayers = read.integer("num_hidden_layers");
  const numExperts = read.integer("num_experts", source.num_local_experts as number | undefined, 0);
  const expertsPerToken = read.integer("num_experts_per_tok", 4);
  if (numExperts > 0 && expertsPerToken > numExperts) read.fail("num_experts_per_tok", `at most num_experts, ${numExperts}`);
  const step = read.integer("decoder_sparse_step", 1);
  const dense = new Set(read.integers("mlp_only_layers"));
  return {
    modelType: "qwen2_moe",
    vocabSize: read.integer("vocab_size"),
    hiddenSize, numLayers, numHeads, numKeyValueHeads, headDim,
    normEpsilon: read.number("rms_norm_eps", 1e-6),
    ropeTheta: read.ropeTheta(10_000),
    maxPositions: read.integer("max_position_embeddings", 32_768),
    tieEmbeddings: read.boolean("tie_word_embeddings", false),
    initializerRange: read.number("initializer_range", 0.02),
    denseWidth: read.integer("intermediate_size"),
    numExperts, expertsPerToken,
    expertWidth: read.integer("moe_intermediate_size"),
    sharedExpertWidth: read.integer("shared_expert_intermediate_size"),
    normalizeTopK: read.boolean("norm_topk_prob", false),
    sparse: Array.from({ length: numLayers }, (_, i) => numExperts > 0 && !dense.has(i) && (i + 1) % step === 0),
    source,
  };
}

function blockParameters(config: ModelConfig, layer: number): ParameterSpec[] {
  const { hiddenSize: D, headDim: C, expertWidth: F, numExperts: E, sharedExpertWidth: shared } = config;
  const query = config.numHeads * C;
  const keyValue = config.numKeyValueHeads * C;
  const matrix = (name: string, ...size: number[]): ParameterSpec => ({ name, shape: size, init: "normal" });
  const gatedUnit = (prefix: string, width: number): ParameterSpec[] => [
    matrix(`${prefix}.gate_proj.weight`, width, D),
    matrix(`${prefix}.up_proj.weight`, width, D),
    matrix(`${prefix}.down_proj.weight`, D, width),
  ];
  const feedForward: ParameterSpec[] = !config.sparse[layer] ? gatedUnit("mlp", config.denseWidth) : [
    matrix("mlp.gate.weight", E, D),
    { ...matrix("mlp.experts.gate_up_proj", E, 2 * F, D), experts: { template: "mlp.experts.{expert}.{part}.weight", parts: ["gate_proj", "up_proj"] } },
    { ...matrix("mlp.experts.down_proj", E, D, F), experts: { template: "mlp.experts.{expert}.{part}.weight", parts: ["down_proj"] } },
    ...gatedUnit("mlp.shared_expert", shared),
    matrix("mlp.shared_expert_gate.weight", 1, D),
  ];
  return [
    { name: "input_layernorm.weight", shape: [D], init: "ones" },
    matrix("self_attn.q_proj.weight", query, D),
    { name: "self_attn.q_proj.bias", shape: [query], init: "zeros" },
    matrix("self_attn.k_proj.weight", keyValue, D),
    { name: "self_attn.k_proj.bias", shape: [keyValue], init: "zeros" },
    matrix("self_attn.v_proj.weight", keyValue, D),
    { name: "self_attn.v_proj.bias", shape: [keyValue], init: "zeros" },
    matrix("self_attn.o_proj.weight", D, query),
    { name: "post_attention_layernorm.weight", shape: [D], init: "ones" },
    ...feedForward,
  ];
}

function attention(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor {
  const { config, cos_TC, sin_TC } = context;
  const h_TD = rmsNorm(x_TD, weights.get("input_layernorm.weight"), config.normEpsilon, context.computeDtype);
  const project = (name: string, heads: number): Tensor =>
    reshape(linear(h_TD, weights.get(`self_attn.${name}_proj.weight`), weights.get(`self_attn.${name}_proj.bias`)), [-1, heads, config.headDim]);
  const q_THC = rotate(project("q", config.numHeads), cos_TC, sin_TC);
  let keys_TKC = rotate(project("k", config.numKeyValueHeads), cos_TC, sin_TC);
  let values_TKC = project("v", config.numKeyValueHeads);
  if (context.cache) ({ keys_TKC, values_TKC } = context.cache.extend(layer, keys_TKC, values_TKC));
  const heads_TN = attend(q_THC, keys_TKC, values_TKC, context.segments);
  return cast(linear(heads_TN, weights.get("self_attn.o_proj.weight")), dtype(x_TD));
}

function feedForward(weights: Weights, x_TD: Tensor, layer: number, context: Context): Tensor {
  const { config } = context;
  const h_TD = rmsNorm(x_TD, weights.get("post_attention_layernorm.weight"), config.normEpsilon, context.computeDtype);
  const unit = (prefix: string): Tensor =>
    gatedLinear(h_TD, weights.get(`${prefix}.gate_proj.weight`), weights.get(`${prefix}.up_proj.weight`), weights.get(`${prefix}.down_proj.weight`));
  if (!config.sparse[layer]) return cast(unit("mlp"), dtype(x_TD));
  const routed_TD = routedExperts(h_TD, {
    router_ED: weights.get("mlp.gate.weight"),
    gateUp: weights.experts("mlp.experts.gate_up_proj"),
    down: weights.experts("mlp.experts.down_proj"),
    expertsPerToken: config.expertsPerToken,
    normalize: config.normalizeTopK,
  }, layer, context.routing);
  const shared_TD = mul(sigmoid(linear(h_TD, weights.get("mlp.shared_expert_gate.weight"))), unit("mlp.shared_expert"));
  return cast(add(routed_TD, shared_TD), dtype(x_TD));
}

export const qwen2Moe: Architecture = {
  modelType: "qwen2_moe",
  readConfig,
  blockPrefix: (layer) => `model.layers.${layer}.`,
  blockParameters,
  outerParameters: (config) => {
    const table = [config.vocabSize, config.hiddenSize];
    return {
      embedding: { name: "model.embed_tokens.weight", shape: table, init: "normal" },
      norm: { name: "model.norm.weight", shape: [config.hiddenSize], init: "ones" },
      head: config.tieEmbeddings ? null : { name: "lm_head.weight", shape: table, init: "normal" },
    };
  },
  attention,
  feedForward,
  finalNorm: (weight_D, x_TD, config, computeDtype) => rmsNorm(x_TD, weight_D, config.normEpsilon, computeDtype),
};
