// The families whose routers correct their choice (GLM-4.5, dots.llm1, Solar Open, MiniMax-M2, ERNIE-4.5): each key that they read, what they refuse, and
// how many parameters released models have, as transformers counts them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Architecture, isRouted } from "../model/architecture.js";
import { parameterCount, placedWeights } from "../model/model.js";
import { fromArray, toArray } from "../torch/tensor.js";
import { scope } from "../torch/scope.js";
import { readArchitecture } from "./registry.js";
import { attentionIn, expertsIn } from "./testing-config.js";

const SIZES = {
  vocab_size: 40,
  hidden_size: 16,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 24,
  moe_intermediate_size: 8,
  head_dim: 8,
};
const FAMILIES = {
  glm4_moe: { ...SIZES, n_routed_experts: 12, num_experts_per_tok: 3 },
  dots1: { ...SIZES, n_routed_experts: 12, num_experts_per_tok: 3, n_shared_experts: 2 },
  solar_open: { ...SIZES, n_routed_experts: 12, num_experts_per_tok: 3 },
  minimax_m2: { ...SIZES, num_local_experts: 12, num_experts_per_tok: 3 },
  ernie4_5_moe: { ...SIZES, moe_num_experts: 12, moe_k: 3 },
};
type Family = keyof typeof FAMILIES;

const read = (model_type: Family, changes: Record<string, unknown> = {}): Architecture =>
  readArchitecture({ model_type, ...FAMILIES[model_type], ...changes }, "config.json");

const refuses = (model_type: Family, changes: Record<string, unknown>, message: RegExp): void =>
  assert.throws(() => read(model_type, changes), { name: "UserError", message });

test("defaults are those of the classes in transformers", () => {
  const table = (Object.keys(FAMILIES) as Family[]).map((name) => {
    const architecture = read(name);
    const { bias, queryKeyNorm, normEpsilon } = attentionIn(architecture);
    const { outer, maxPositions, layers } = architecture;
    const [{ sharedWidth, sharedGate, expertWidth, wideRouter = false }] = expertsIn(layers);
    const [{ theta, width, neighbours = false, wide = false }] = architecture.rotary;
    const shared = sharedWidth > 0 && [sharedWidth, sharedGate];
    return [
      ...[name, bias, queryKeyNorm, normEpsilon, theta, width, neighbours, wide, wideRouter],
      ...[shared, expertWidth, outer.head === null, maxPositions, layers.map(isRouted).indexOf(true)],
    ];
  });
  assert.deepEqual(table, [
    ["glm4_moe", "none", "none", 1e-5, 1e4, 4, false, false, true, [8, false], 8, false, 131_072, 1],
    ["dots1", "none", "head", 1e-6, 1e4, 8, false, false, true, [16, false], 8, false, 2048, 0],
    ["solar_open", "none", "none", 1e-5, 1e6, 8, false, false, true, [8, false], 8, false, 131_072, 0],
    ["minimax_m2", "none", "whole", 1e-6, 5e6, 8, false, false, false, false, 24, false, 196_608, 0],
    ["ernie4_5_moe", "none", "none", 1e-5, 5e5, 8, true, true, true, [16, false], 8, true, 131_072, 1],
  ]);
  assert.equal(attentionIn(read("minimax_m2", { head_dim: undefined })).headDim, 128);
});

test("which layers route", () => {
  const routed = (name: Family, changes: Record<string, unknown>): number[] =>
    read(name, changes).layers.flatMap((layer, i) => (isRouted(layer) ? [i] : []));
  assert.deepEqual(routed("glm4_moe", { first_k_dense_replace: 3 }), [3]);
  assert.deepEqual(routed("glm4_moe", { first_k_dense_replace: 0 }), [0, 1, 2, 3]);
  assert.deepEqual(routed("dots1", { first_k_dense_replace: 2 }), [2, 3]);
  assert.deepEqual(routed("solar_open", {}), [0, 1, 2, 3]);
  assert.deepEqual(routed("minimax_m2", {}), [0, 1, 2, 3]);
  assert.deepEqual(routed("ernie4_5_moe", { moe_layer_start_index: 0, moe_layer_interval: 2 }), [1, 3]);
  assert.deepEqual(routed("ernie4_5_moe", { moe_layer_start_index: 2, moe_layer_end_index: 2 }), [2]);
  assert.deepEqual(routed("ernie4_5_moe", { moe_layer_end_index: -1 }), [1, 2, 3]);
});

test("biases, norms of heads, and how many features turn", () => {
  const { bias, queryKeyNorm } = attentionIn(read("glm4_moe", { attention_bias: true, use_qk_norm: true }));
  assert.deepEqual([bias, queryKeyNorm], ["qkv", "head"]);
  const width = (name: Family, changes: Record<string, unknown>): number => read(name, changes).rotary[0].width;
  assert.equal(width("glm4_moe", { partial_rotary_factor: 0.25 }), 2);
  refuses("solar_open", { partial_rotary_factor: 0.5 }, /"partial_rotary_factor" is 0\.5/);
  assert.equal(attentionIn(read("solar_open", { attention_bias: true })).bias, "qkv");
  assert.equal(attentionIn(read("solar_open", { head_dim: undefined })).headDim, 128);
  assert.equal(width("minimax_m2", { rotary_dim: 6 }), 6);
  assert.equal(width("minimax_m2", { rotary_dim: 6, rope_parameters: { partial_rotary_factor: 0.5 } }), 4);
  refuses("minimax_m2", { rotary_dim: 10 }, /"rotary_dim" is 10 \(expected at most 8\)/);
  refuses("minimax_m2", { rotary_dim: 3 }, /expected a share of 8 features that is an even number of them/);
  refuses("ernie4_5_moe", { partial_rotary_factor: 0.5 }, /"partial_rotary_factor" is 0\.5/);
});

test("which layers of dots.llm1 have windows", () => {
  const windows = (changes: Record<string, unknown>): unknown[] =>
    read("dots1", changes).layers.map(({ attention }) => (attention.settings as { window: unknown }).window);
  const full = [null, null, null, null];
  assert.deepEqual(windows({}), full);
  assert.deepEqual(windows({ max_window_layers: 2 }), [null, null, 4096, 4096]);
  assert.deepEqual(windows({ max_window_layers: 2, sliding_window: null }), full);
  const layer_types = ["sliding_attention", ...Array<string>(3).fill("full_attention")];
  assert.deepEqual(windows({ layer_types, sliding_window: 7, max_window_layers: 2 }), [7, null, null, null]);
  refuses("dots1", { layer_types: ["full_attention"] }, /"layer_types" is \["full_attention"\] \(expected .* 4 layers/);
  refuses("dots1", { layer_types, sliding_window: null }, /"sliding_window" is null/);
});

test("gates are shares with a factor, of a sum with a least, or the scores themselves", () => {
  const gates = (name: Family, changes: Record<string, unknown> = {}): number[] =>
    scope(() => {
      const [{ router }] = expertsIn(read(name, changes).layers);
      const indices_TA = fromArray([0, 2], [1, 2], "int64");
      return toArray(router.gates(fromArray([0.25, 0.5, 0.125], [1, 3], "float64"), indices_TA));
    });
  const shares = [2 / 3, 1 / 3];
  const near = (actual: number[], expected: number[]): void =>
    expected.forEach((value, i) => assert.ok(Math.abs(actual[i] - value) < 1e-12, `${actual}, not ${expected}`));
  near(gates("glm4_moe"), shares);
  near(
    gates("glm4_moe", { routed_scaling_factor: 2.5 }),
    shares.map((share) => 2.5 * share),
  );
  near(gates("glm4_moe", { norm_topk_prob: false, routed_scaling_factor: 4 }), [1, 0.5]);
  near(gates("dots1"), [0.25, 0.125]);
  near(
    gates("dots1", { norm_topk_prob: true, scoring_func: "noaux_tc", routed_scaling_factor: 2.5 }),
    shares.map((share) => 2.5 * share),
  );
  near(gates("solar_open"), shares);
  near(gates("solar_open", { norm_topk_prob: false, routed_scaling_factor: 4 }), [1, 0.5]);
  near(gates("minimax_m2"), shares);
  near(gates("ernie4_5_moe"), shares);
  near(gates("ernie4_5_moe", { moe_norm_min: 0.5 }), [0.5, 0.25]);
});

test("what is not computed is refused by name", () => {
  refuses("glm4_moe", { n_routed_experts: undefined }, /"n_routed_experts" is missing/);
  refuses("glm4_moe", { n_group: 5 }, /"n_group" is 5 \(expected a divisor of the number of experts, 12\)/);
  refuses("glm4_moe", { n_group: 12 }, /"n_group" is 12 \(expected groups of at least two of 12 experts\)/);
  refuses("glm4_moe", { n_group: 4, topk_group: 5 }, /"topk_group" is 5 \(expected at most 4\)/);
  refuses("glm4_moe", { n_group: 6 }, /"topk_group" is missing \(expected groups that have 3 experts/);
  refuses("glm4_moe", { scoring_func: "softmax" }, /"scoring_func" is "softmax"/);
  refuses("glm4_moe", { topk_method: "greedy" }, /"topk_method" is "greedy"/);
  refuses("glm4_moe", { n_shared_experts: 0 }, /"n_shared_experts" is 0/);
  refuses("glm4_moe", { n_shared_experts: 20_000 }, /"n_shared_experts" is 20000 \(expected at most 16384\)/);
  refuses("dots1", { num_experts_per_tok: undefined }, /"num_experts_per_tok" is missing/);
  refuses("dots1", { n_shared_experts: undefined }, /"n_shared_experts" is missing/);
  refuses("dots1", { scoring_func: "softmax" }, /"scoring_func" is "softmax" \(expected "sigmoid" or "noaux_tc"/);
  refuses("dots1", { topk_method: "greedy" }, /"topk_method" is "greedy"/);
  refuses("solar_open", { n_routed_experts: 0 }, /"n_routed_experts" is 0 \(expected a whole number of at least 1/);
  refuses("solar_open", { n_group: 5 }, /"n_group" is 5/);
  refuses("solar_open", { hidden_act: "gelu" }, /"hidden_act" is "gelu"/);
  refuses("minimax_m2", { num_local_experts: 0 }, /"num_local_experts" is 0/);
  refuses("minimax_m2", { use_qk_norm: false }, /"use_qk_norm" is false/);
  refuses("minimax_m2", { use_routing_bias: false }, /"use_routing_bias" is false/);
  refuses("minimax_m2", { shared_intermediate_size: 8 }, /"shared_intermediate_size" is 8/);
  refuses(
    "minimax_m2",
    { attn_type_list: [1, 0, 1, 1] },
    /"attn_type_list" is \[1,0,1,1\] \(expected 1 for every layer/,
  );
  refuses("ernie4_5_moe", { use_bias: true }, /"use_bias" is true/);
  refuses("ernie4_5_moe", { moe_k: 13 }, /"moe_k" is 13 \(expected at most moe_num_experts, 12\)/);
});

test("names of layers behind the last pass through, others do not", () => {
  const passes = (name: Family, changes: Record<string, unknown>, tensor: string): boolean =>
    read(name, changes).passThrough?.test(tensor) ?? false;
  assert.ok(passes("glm4_moe", {}, "model.layers.4.shared_head.head.weight"));
  assert.ok(!passes("glm4_moe", {}, "model.layers.5.shared_head.head.weight"));
  assert.ok(!passes("glm4_moe", {}, "model.layers.40.shared_head.head.weight"));
  assert.ok(!passes("glm4_moe", { num_nextn_predict_layers: 0 }, "model.layers.4.shared_head.head.weight"));
  assert.ok(!passes("minimax_m2", {}, "model.layers.4.eh_proj.weight"));
  assert.ok(passes("minimax_m2", { num_mtp_modules: 3 }, "model.layers.6.eh_proj.weight"));
  assert.ok(passes("ernie4_5_moe", {}, "model.mtp_block.0.mlp.up_proj.weight"));
  assert.ok(!passes("ernie4_5_moe", {}, "model.layers.4.mlp.up_proj.weight"));
});

const GLM = {
  model_type: "glm4_moe",
  vocab_size: 151_552,
  num_attention_heads: 96,
  num_key_value_heads: 8,
  head_dim: 128,
  n_shared_experts: 1,
  num_experts_per_tok: 8,
  attention_bias: true,
};
const RELEASED: [name: string, count: number, source: Record<string, unknown>][] = [
  [
    "GLM-4.5-Air",
    106_852_245_504,
    {
      ...GLM,
      hidden_size: 4096,
      intermediate_size: 10_944,
      moe_intermediate_size: 1408,
      num_hidden_layers: 46,
      n_routed_experts: 128,
    },
  ],
  [
    "GLM-4.5",
    352_797_814_784,
    {
      ...GLM,
      hidden_size: 5120,
      intermediate_size: 12_288,
      moe_intermediate_size: 1536,
      num_hidden_layers: 92,
      n_routed_experts: 160,
      first_k_dense_replace: 3,
      routed_scaling_factor: 2.5,
      use_qk_norm: true,
    },
  ],
  [
    "MiniMax-M2",
    228_689_748_992,
    {
      model_type: "minimax_m2",
      vocab_size: 200_064,
      hidden_size: 3072,
      intermediate_size: 1536,
      num_hidden_layers: 62,
      num_attention_heads: 48,
      num_key_value_heads: 8,
      head_dim: 128,
      rotary_dim: 64,
      num_local_experts: 256,
      num_experts_per_tok: 8,
    },
  ],
  [
    "ERNIE-4.5-21B-A3B",
    21_825_437_888,
    {
      model_type: "ernie4_5_moe",
      vocab_size: 103_424,
      hidden_size: 2560,
      intermediate_size: 12_288,
      moe_intermediate_size: 1536,
      num_hidden_layers: 28,
      num_attention_heads: 20,
      num_key_value_heads: 4,
      moe_num_experts: 64,
      moe_k: 6,
    },
  ],
];

for (const [name, count, source] of RELEASED) {
  test(`${name} has ${(count / 1e9).toFixed(1)} billion parameters`, () => {
    const architecture = readArchitecture(source, "config.json");
    // transformers counts ERNIE's corrections too, which it has among its parameters.
    const corrections = source.model_type === "ernie4_5_moe" ? 64 * 27 : 0;
    assert.equal(parameterCount(placedWeights(architecture)) + corrections, count);
  });
}
