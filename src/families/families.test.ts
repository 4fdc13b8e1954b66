// What each family reads from config.json, key by key, and what it refuses: a setting that would be ignored trains
// another network than the one asked for.
import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { type Architecture, isRouted } from "../model/architecture.js";
import { chosenShares } from "../layers/experts/router.js";
import { readArchitecture } from "./registry.js";
import { attentionIn, expertsIn } from "./testing-config.js";

const SIZES = {
  vocab_size: 40,
  hidden_size: 16,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 24,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const QWEN = { ...SIZES, moe_intermediate_size: 8 };
const FAMILIES = {
  qwen2_moe: { ...QWEN, shared_expert_intermediate_size: 12 },
  qwen3_moe: QWEN,
  mixtral: { ...SIZES, num_experts: undefined, num_local_experts: 4 },
  olmoe: SIZES,
};
type Family = keyof typeof FAMILIES;

function read(model_type: Family, changes: Record<string, unknown> = {}): Architecture {
  const source = { model_type, ...FAMILIES[model_type], ...changes };
  return readArchitecture(source, "config.json");
}

function refuses(model_type: Family, changes: Record<string, unknown>, pattern: RegExp): void {
  assert.throws(
    () => read(model_type, changes),
    (failure: Error) => {
      assert.ok(failure instanceof UserError, String(failure));
      assert.match(failure.message, pattern);
      return true;
    },
  );
}

const NAMES = Object.keys(FAMILIES) as Family[];

test("defaults are those of the classes in transformers", () => {
  const table = NAMES.map((name) => {
    const architecture = read(name);
    const { bias, queryKeyNorm, normEpsilon } = attentionIn(architecture);
    const [{ sharedWidth, router }] = expertsIn(architecture.layers);
    const normalized = router.gates === chosenShares;
    const { experts, rotary } = architecture;
    return [name, bias, queryKeyNorm, normalized, normEpsilon, rotary[0].theta, experts.width, sharedWidth];
  });
  assert.deepEqual(table, [
    ["qwen2_moe", "qkv", "none", false, 1e-6, 10_000, 8, 12],
    ["qwen3_moe", "none", "head", false, 1e-6, 10_000, 8, 0],
    ["mixtral", "none", "none", true, 1e-5, 1_000_000, 24, 0],
    ["olmoe", "none", "whole", false, 1e-5, 10_000, 24, 0],
  ]);
  for (const name of NAMES) {
    const { outer, initializerRange, ...architecture } = read(name);
    const { headDim, clip, window } = attentionIn({ outer, initializerRange, ...architecture });
    assert.deepEqual([headDim, clip, window, outer.head === null, initializerRange], [4, null, null, false, 0.02]);
  }
});

test("both names of the number of experts are read, in every family", () => {
  for (const name of NAMES) {
    for (const [num_experts, num_local_experts] of [
      [6, undefined],
      [undefined, 6],
    ]) {
      assert.equal(read(name, { num_experts, num_local_experts }).experts.count, 6);
    }
    refuses(name, { num_experts: undefined, num_local_experts: undefined }, /"num_local_experts" is missing/);
    refuses(
      name,
      { num_experts: undefined, num_local_experts: 1 },
      /"num_experts_per_tok" is 2 \(expected at most num_local_experts, 1\)/,
    );
  }
});

test("which layers are sparse", () => {
  for (const name of ["qwen2_moe", "qwen3_moe"] as const) {
    assert.deepEqual(read(name, { decoder_sparse_step: 2 }).layers.map(isRouted), [false, true, false]);
    assert.deepEqual(read(name, { mlp_only_layers: [2] }).layers.map(isRouted), [true, true, false]);
    assert.deepEqual(read(name, { num_experts: 0 }).layers.map(isRouted), [false, false, false]);
  }
  for (const name of ["mixtral", "olmoe"] as const) {
    assert.deepEqual(read(name, { decoder_sparse_step: 2, mlp_only_layers: [2] }).layers.map(isRouted), [
      true,
      true,
      true,
    ]);
  }
  refuses("mixtral", { num_local_experts: 0 }, /"num_local_experts" is 0 \(expected a whole number of at least 1\)/);
  refuses("olmoe", { num_experts: 0 }, /"num_experts" is 0/);
});

test("head width, biases, windows and clipping", () => {
  assert.equal(attentionIn(read("qwen3_moe", { head_dim: 10 })).headDim, 10);
  assert.equal(attentionIn(read("mixtral", { head_dim: 10 })).headDim, 10);
  assert.equal(attentionIn(read("mixtral", { head_dim: null })).headDim, 4);
  assert.equal(attentionIn(read("qwen3_moe", { attention_bias: true })).bias, "all");
  assert.equal(attentionIn(read("olmoe", { attention_bias: true, clip_qkv: 8.5, norm_topk_prob: true })).clip, 8.5);
  assert.equal(attentionIn(read("mixtral", { sliding_window: 4096 })).window, 4096);
  assert.equal(attentionIn(read("qwen3_moe", { sliding_window: 4096 })).window, null);
  assert.equal(attentionIn(read("qwen3_moe", { sliding_window: 4096, use_sliding_window: true })).window, 4096);
});

test("what is not computed is refused by name", () => {
  refuses("qwen2_moe", { use_sliding_window: true }, /"use_sliding_window" is true/);
  refuses("qwen2_moe", { qkv_bias: false }, /"qkv_bias" is false/);
  refuses("qwen3_moe", { use_sliding_window: true }, /"sliding_window" is missing/);
  refuses("mixtral", { sliding_window: 0 }, /"sliding_window" is 0/);
  refuses("olmoe", { head_dim: 6 }, /"head_dim" is 6 \(expected 4; other values/);
  for (const name of ["qwen3_moe", "mixtral"] as const)
    refuses(name, { num_key_value_heads: undefined }, /"num_key_value_heads" is missing/);
  for (const name of NAMES) {
    refuses(name, { hidden_act: "gelu" }, /"hidden_act" is "gelu"/);
    refuses(name, { attention_dropout: "some" }, /"attention_dropout" is "some"/);
    refuses(
      name,
      { num_key_value_heads: 3 },
      /"num_key_value_heads" is 3 \(expected a divisor of num_attention_heads, 4\)/,
    );
    refuses(name, { rope_scaling: { type: "su" } }, /config\.json: rope_scaling: rope type "su" is not supported/);
  }
  assert.throws(() => readArchitecture({ model_type: "bloom" }, "config.json"), {
    message:
      /^config\.json: model_type is "bloom" \(expected qwen2_moe, qwen3_moe, mixtral, olmoe, granitemoe, .*\)\. This architecture is not supported\.$/,
  });
  assert.throws(() => readArchitecture({ model_type: "llama" }, "config.json"), {
    message: /model_type is "llama" \(expected qwen2_moe, .*\)\. Make a mixture of experts of it: revmoe upcycle\.$/,
  });
});
