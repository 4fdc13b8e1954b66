// Families with latent attention: released models by the numbers in their config.json, what is read key by key, and what is refused.
import assert from "node:assert/strict";
import { test } from "node:test";

import { isRouted } from "../../model/architecture.js";
import type { LatentAttention } from "../../layers/attention/latent.js";
import { parameterCount, placedWeights } from "../../model/model.js";
import { readArchitecture } from "../registry.js";
import { expertsIn } from "../testing-config.js";

type Source = Record<string, unknown>;

const YARN = {
  type: "yarn",
  ...{ factor: 40, beta_fast: 32, beta_slow: 1, original_max_position_embeddings: 4096 },
};
const LITE_WEIGHT = 707 / 1000;
const ONES = new Array<number>(32).fill(1);
const LONG = { type: "longrope", short_factor: ONES, long_factor: ONES, factor: 2 };
const WIDTHS = { kv_lora_rank: 512, qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128 };
const SIGMOIDS = { scoring_func: "sigmoid", topk_method: "noaux_tc", norm_topk_prob: true, moe_layer_freq: 1 };
const SMALL = {
  ...WIDTHS,
  ...{ hidden_size: 2048, num_hidden_layers: 27, num_attention_heads: 16, num_key_value_heads: 16, q_lora_rank: null },
  ...{ moe_intermediate_size: 1408, n_routed_experts: 64, n_shared_experts: 2, num_experts_per_tok: 6 },
  ...{ first_k_dense_replace: 1, n_group: 1, topk_group: 1, hidden_act: "silu", rope_scaling: null },
};
const V3 = {
  ...{ model_type: "deepseek_v3", ...WIDTHS, ...SIGMOIDS, vocab_size: 129_280, hidden_size: 7168 },
  ...{ num_hidden_layers: 61, num_attention_heads: 128, num_key_value_heads: 128, q_lora_rank: 1536 },
  ...{ intermediate_size: 18_432, moe_intermediate_size: 2048, n_routed_experts: 256, n_shared_experts: 1 },
  ...{ num_experts_per_tok: 8, n_group: 8, topk_group: 4, first_k_dense_replace: 3, routed_scaling_factor: 2.5 },
  ...{ max_position_embeddings: 163_840, rope_theta: 10_000, rms_norm_eps: 1e-6, num_nextn_predict_layers: 1 },
  rope_scaling: { ...YARN, mscale: 1, mscale_all_dim: 1 },
};
const MOONLIGHT = {
  ...{ model_type: "deepseek_v3", ...SMALL, ...SIGMOIDS, vocab_size: 163_840, intermediate_size: 11_264 },
  ...{ routed_scaling_factor: 2.446, rope_theta: 50_000, rms_norm_eps: 1e-5, max_position_embeddings: 8192 },
  num_nextn_predict_layers: 0,
};
const V2_LITE = {
  ...{ model_type: "deepseek_v2", ...SMALL, vocab_size: 102_400, intermediate_size: 10_944, rms_norm_eps: 1e-6 },
  ...{ scoring_func: "softmax", topk_method: "greedy", norm_topk_prob: false, routed_scaling_factor: 1 },
  ...{ rope_theta: 10_000, max_position_embeddings: 163_840 },
  rope_scaling: { ...YARN, mscale: LITE_WEIGHT, mscale_all_dim: LITE_WEIGHT },
};
const FLASH = {
  ...{
    model_type: "glm4_moe_lite",
    vocab_size: 154_880,
    hidden_size: 2048,
    num_hidden_layers: 47,
    topk_method: "noaux_tc",
  },
  ...{ num_attention_heads: 20, num_key_value_heads: 20, q_lora_rank: 768, kv_lora_rank: 512, qk_nope_head_dim: 192 },
  ...{ qk_rope_head_dim: 64, v_head_dim: 256, intermediate_size: 10_240, moe_intermediate_size: 1536 },
  ...{ n_routed_experts: 64, n_shared_experts: 1, num_experts_per_tok: 4, n_group: 1, topk_group: 1 },
  ...{ first_k_dense_replace: 1, norm_topk_prob: true, routed_scaling_factor: 1.8, rope_theta: 1_000_000 },
  ...{ rope_scaling: null, partial_rotary_factor: 1, rms_norm_eps: 1e-5, max_position_embeddings: 202_752 },
};

const read = (source: Source) => readArchitecture(source, "config.json");
const attentionOf = (source: Source): LatentAttention => read(source).layers[0].attention.settings as LatentAttention;

for (const [name, source, count, dense] of [
  ["DeepSeek-V3", V3, 671_026_404_352, 3],
  ["Moonlight-16B-A3B", MOONLIGHT, 15_960_108_544, 1],
  ["DeepSeek-V2-Lite", V2_LITE, 15_706_484_224, 1],
  ["GLM-4.7-Flash", FLASH, 29_943_390_976, 1],
] as const) {
  test(`${name} has ${(count / 1e9).toFixed(1)} billion parameters`, () => {
    const architecture = read(source);
    assert.equal(parameterCount(placedWeights(architecture)), count);
    assert.deepEqual(
      architecture.layers.map(isRouted),
      architecture.layers.map((_, layer) => layer >= dense),
    );
    assert.equal(new Set(architecture.layers.map(({ kind }) => kind)).size, 2);
    assert.equal(architecture.rotary[0].width, 64);
    assert.equal(architecture.rotary[0].neighbours, true);
  });
}

test("scores have the factor of the stretched positions, squared, and tables the ratio of both", () => {
  const factor = (weight: number): number => 0.1 * weight * Math.log(40) + 1;
  assert.equal(attentionOf(MOONLIGHT).scale, 192 ** -0.5);
  assert.equal(attentionOf(FLASH).scale, 256 ** -0.5);
  assert.equal(attentionOf(V3).scale, 192 ** -0.5 * factor(1) ** 2);
  assert.equal(attentionOf(V2_LITE).scale, 192 ** -0.5 * factor(LITE_WEIGHT) ** 2);
  const plain = { ...V3, rope_scaling: YARN };
  assert.equal(attentionOf(plain).scale, 192 ** -0.5);
  const attentionFactor = (source: Source): unknown =>
    (read(source).rotary[0].scaling as { attentionFactor?: number }).attentionFactor;
  assert.equal(attentionFactor(plain), factor(1));
  assert.equal(attentionFactor(V3), 1);
  assert.equal(
    attentionFactor({ ...V3, rope_scaling: { ...YARN, mscale: 1, mscale_all_dim: 0.5 } }),
    factor(1) / factor(0.5),
  );
});

test("no latent of queries is null; where the key is missing, the class has one", () => {
  assert.equal(attentionOf(MOONLIGHT).queryRank, null);
  const { q_lora_rank: _rank, ...without } = V3;
  assert.equal(attentionOf(without).queryRank, 1536);
  const { q_lora_rank: _none, ...flash } = FLASH;
  assert.equal(attentionOf(flash).queryRank, 768);
  assert.equal(attentionOf({ ...V3, num_key_value_heads: 3, head_dim: 7 }).numHeads, 128);
});

test("dense layers are the first ones, or those of a list", () => {
  const routed = (source: Source): boolean[] => read(source).layers.map(isRouted);
  assert.deepEqual(routed({ ...FLASH, num_hidden_layers: 3 }), [false, true, true]);
  const types = ["sparse", "dense", "sparse"];
  assert.deepEqual(routed({ ...FLASH, num_hidden_layers: 3, mlp_layer_types: types }), [true, false, true]);
  assert.deepEqual(routed({ ...V2_LITE, num_hidden_layers: 2, first_k_dense_replace: 0 }), [true, true]);
  const { sharedWidth, correction, wideRouter } = expertsIn(read(V3).layers)[0];
  assert.deepEqual([sharedWidth, correction, wideRouter], [2048, [256], true]);
  assert.equal(expertsIn(read(V2_LITE).layers)[0].correction, undefined);
});

test("layers that predict further tokens pass through", () => {
  const passes = (source: Source, name: string): boolean => read(source).passThrough?.test(name) ?? false;
  assert.ok(passes(V3, "model.layers.61.eh_proj.weight"));
  assert.ok(passes(FLASH, "model.layers.47.mlp.experts.3.up_proj.weight"));
  assert.ok(!passes(V3, "model.layers.60.mlp.gate.weight"));
  assert.ok(!passes(V3, "model.layers.611.mlp.gate.weight"));
  assert.ok(!passes(MOONLIGHT, "model.layers.27.eh_proj.weight"));
});

test("what is not computed, or does not fit together, is refused", () => {
  for (const [source, changes, expected] of [
    [V3, { scoring_func: "softmax" }, /"scoring_func" is "softmax" \(expected "sigmoid"/],
    [V3, { topk_method: "greedy" }, /"topk_method" is "greedy"/],
    [V3, { n_group: 7 }, /"n_group" is 7 \(expected a divisor of the number of experts, 256\)/],
    [V3, { n_group: 256 }, /"n_group" is 256 \(expected groups of at least two/],
    [V3, { topk_group: 9 }, /"topk_group" is 9 \(expected at most/],
    [V3, { n_group: 128, topk_group: 2 }, /"topk_group" is 2 \(expected groups that have 8 experts/],
    [V3, { qk_rope_head_dim: 63 }, /"qk_rope_head_dim" is 63 \(expected an even number\)/],
    [V3, { moe_layer_freq: 2 }, /"moe_layer_freq" is 2/],
    [
      V3,
      { rope_scaling: { ...LONG, mscale_all_dim: 1 } },
      /rope_scaling: "mscale_all_dim" is 1 \(expected 0 for rope type longrope\)/,
    ],
    [V2_LITE, { norm_topk_prob: true }, /"norm_topk_prob" is true/],
    [V2_LITE, { topk_method: "noaux_tc" }, /"topk_method" is "noaux_tc"/],
    [V2_LITE, { mlp_bias: true }, /"mlp_bias" is true/],
    [FLASH, { first_k_dense_replace: 2 }, /"first_k_dense_replace" is 2 \(expected 1/],
    [
      FLASH,
      { mlp_layer_types: ["dense"] },
      /"mlp_layer_types" is \["dense"\] \(expected "dense" or "sparse" for each of 47/,
    ],
  ] as [Source, Source, RegExp][]) {
    assert.throws(
      () => read({ ...source, ...changes }),
      { name: "UserError", message: expected },
      JSON.stringify(changes),
    );
  }
});
