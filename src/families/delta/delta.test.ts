// Qwen3-Next and Qwen3.5-MoE: each key that they read, what they refuse, names on disk, and how many parameters released models have.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { GatedDelta } from "../../layers/attention/delta-settings.js";
import { chosenScores, chosenShares } from "../../layers/experts/router.js";
import { type Architecture, isRouted } from "../../model/architecture.js";
import { parameterCount, placedParameters } from "../../model/model.js";
import { readArchitecture } from "../registry.js";
import { attentionIn, expertsIn } from "../testing-config.js";

const SIZES = {
  vocab_size: 40,
  hidden_size: 16,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_experts: 12,
};
const TEXT = { model_type: "qwen3_5_moe_text", ...SIZES };
const NAMES = ["qwen3_next", "qwen3_5_moe_text", "qwen3_5_moe"] as const;
type Name = (typeof NAMES)[number];

/** `changes` are of the text. */
function read(name: Name, changes: Record<string, unknown> = {}, top: Record<string, unknown> = {}): Architecture {
  const text = { ...SIZES, ...changes };
  const source = name === "qwen3_5_moe" ? { text_config: text } : text;
  return readArchitecture({ model_type: name, ...source, ...top }, "config.json");
}

const refuses = (name: Name, changes: Record<string, unknown>, message: RegExp, top = {}): void =>
  assert.throws(() => read(name, changes, top), { name: "UserError", message });

const deltaIn = ({ layers }: Architecture): GatedDelta =>
  layers.find(({ attention }) => "keyHeads" in attention.settings)?.attention.settings as GatedDelta;

test("defaults are those of the classes in transformers", () => {
  for (const name of NAMES) {
    const architecture = read(name);
    const { keyHeads, keyWidth, valueHeads, valueWidth, kernel, normForm } = deltaIn(architecture);
    assert.deepEqual([keyHeads, keyWidth, valueHeads, valueWidth, kernel], [16, 128, 32, 128, 4]);
    const { headDim, bias, queryKeyNorm, gate, normEpsilon } = attentionIn(architecture);
    assert.deepEqual([headDim, bias, queryKeyNorm, gate, normEpsilon], [256, "none", "head", true, 1e-6]);
    const [{ sharedWidth, sharedGate, expertWidth, router, ...experts }] = expertsIn(architecture.layers);
    assert.deepEqual([sharedWidth, sharedGate, expertWidth], [512, undefined, 512]);
    assert.equal(router.gates, chosenShares);
    for (const form of [normForm, experts.normForm, attentionIn(architecture).normForm])
      assert.equal(form, "product with 1 + w rounded");
    const { rotary, maxPositions, outer } = architecture;
    assert.deepEqual(
      [rotary[0].theta, rotary[0].width, maxPositions, outer.head === null],
      [10_000, 64, 32_768, false],
    );
    assert.ok(architecture.layers.every(isRouted));
  }
  assert.equal(read("qwen3_next").experts.perToken, 10);
  assert.equal(read("qwen3_5_moe").experts.perToken, 8);
});

test("which layers have full attention, and which are dense", () => {
  const full = (name: Name, changes: Record<string, unknown>): number[] =>
    read(name, changes).layers.flatMap(({ attention }, i) => (attention.kind === "gated attention" ? [i] : []));
  const types = ["full_attention", ...Array<string>(7).fill("linear_attention")];
  for (const name of NAMES) {
    assert.deepEqual(full(name, {}), [3, 7]);
    assert.deepEqual(full(name, { full_attention_interval: 3 }), [2, 5]);
    assert.deepEqual(full(name, { layer_types: types, full_attention_interval: 3 }), [0]);
    refuses(
      name,
      { layer_types: types.slice(1) },
      /"layer_types" is .* \(expected a list of 8 times "linear_attention"/,
    );
    refuses(name, { layer_types: [...types.slice(1), "sliding_attention"] }, /"layer_types" is/);
  }
  const routed = (changes: Record<string, unknown>): boolean[] => read("qwen3_next", changes).layers.map(isRouted);
  const changes = { num_hidden_layers: 4 };
  assert.deepEqual(routed({ ...changes, mlp_only_layers: [0, 3] }), [false, true, true, false]);
  assert.deepEqual(routed({ ...changes, decoder_sparse_step: 2 }), [false, true, false, true]);
  refuses(
    "qwen3_5_moe",
    { mlp_only_layers: [1] },
    /text_config: "mlp_only_layers" is \[1\] \(expected an empty list\)/,
  );
});

test("layers of a kind can stand for one another in plans", () => {
  const kinds = new Set(read("qwen3_5_moe").layers.map(({ kind }) => kind));
  assert.deepEqual([...kinds], ["gated delta rule, experts", "gated attention, experts"]);
});

test("what is not computed is refused by name", () => {
  const router = (changes: Record<string, unknown>) => expertsIn(read("qwen3_next", changes).layers)[0].router;
  assert.equal(router({ norm_topk_prob: false }).gates, chosenScores);
  for (const name of NAMES) {
    refuses(name, { linear_num_value_heads: 40 }, /"linear_num_value_heads" is 40 \(expected a multiple of .*, 16\)/);
    refuses(name, { linear_conv_kernel_dim: 1 }, /"linear_conv_kernel_dim" is 1/);
    refuses(name, { hidden_act: "gelu" }, /"hidden_act" is "gelu"/);
    refuses(name, { linear_key_head_dim: "128" }, /"linear_key_head_dim" is "128"/);
  }
  refuses("qwen3_5_moe_text", { attn_output_gate: false }, /"attn_output_gate" is false/);
  refuses("qwen3_5_moe", { output_gate_type: "sigmoid" }, /text_config: "output_gate_type" is "sigmoid"/);
  refuses("qwen3_5_moe", { num_experts: 0 }, /"num_experts" is 0/);
  refuses("qwen3_5_moe", {}, /"text_config" is 3 \(expected an object\)/, { text_config: 3 });
  refuses("qwen3_5_moe", { tie_word_embeddings: true }, /"tie_word_embeddings" is missing .*true/);
});

test("names on disk, and what passes through", () => {
  const named = (name: Name): string[] => placedParameters(read(name)).map(({ prefix, spec }) => prefix + spec.name);
  const text = named("qwen3_5_moe_text");
  assert.deepEqual(
    named("qwen3_5_moe"),
    text.map((each) => each.replace(/^model\./, "model.language_model.")),
  );
  assert.ok(text.includes("model.layers.0.linear_attn.in_proj_qkv.weight") && text.includes("lm_head.weight"));
  assert.ok(named("qwen3_next").includes("model.layers.0.linear_attn.in_proj_qkvz.weight"));
  const passes = (name: Name, tensor: string): boolean => (read(name).passThrough as RegExp).test(tensor);
  for (const name of NAMES) {
    assert.ok(passes(name, "mtp.layers.0.mlp.gate.weight"));
    assert.equal(passes(name, "model.visual.blocks.0.norm1.bias"), name !== "qwen3_next");
    assert.ok(!passes(name, "model.layers.0.input_layernorm.weight"));
  }
});

test("released models have the parameters that are known of them", () => {
  const count = (source: Record<string, unknown>): string =>
    (parameterCount(placedParameters(readArchitecture(source, "config.json"))) / 1e9).toFixed(2);
  const common = { hidden_size: 2048, num_attention_heads: 16, num_key_value_heads: 2 };
  const next = { ...common, vocab_size: 151_936, num_hidden_layers: 48, num_experts: 512 };
  assert.equal(count({ model_type: "qwen3_next", ...next }), "79.67");
  const text = { ...TEXT, ...common, vocab_size: 248_320, num_hidden_layers: 40, num_experts: 256 };
  assert.equal(count({ model_type: "qwen3_5_moe", text_config: text }), "34.66");
});
