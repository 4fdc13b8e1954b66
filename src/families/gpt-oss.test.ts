// What gpt_oss reads from config.json and what it refuses; the parameters of the released models against the counts that their
// model card states.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { GroupedQuery } from "../layers/attention/grouped-query.js";
import type { Architecture } from "../model/architecture.js";
import { parameterCount, placedParameters } from "../model/model.js";
import { readArchitecture } from "./registry.js";
import { expertsIn } from "./testing-config.js";

const SMALL = {
  model_type: "gpt_oss",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 8,
  num_hidden_layers: 3,
  num_attention_heads: 16,
  num_local_experts: 4,
};
/** As released; layer_types are left to the default. */
const RELEASED = {
  ...SMALL,
  attention_bias: true,
  experts_per_token: 4,
  head_dim: 64,
  hidden_act: "silu",
  hidden_size: 2880,
  initial_context_length: 4096,
  intermediate_size: 2880,
  max_position_embeddings: 131072,
  num_attention_heads: 64,
  num_experts_per_tok: 4,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    beta_fast: 32.0,
    beta_slow: 1.0,
    factor: 32.0,
    original_max_position_embeddings: 4096,
    rope_type: "yarn",
    truncate: false,
  },
  rope_theta: 150000,
  sliding_window: 128,
  swiglu_limit: 7.0,
  tie_word_embeddings: false,
  vocab_size: 201088,
};

const read = (changes: object = {}): Architecture => readArchitecture({ ...SMALL, ...changes }, "config.json");
const attentions = ({ layers }: Architecture): GroupedQuery[] =>
  layers.map(({ attention }) => attention.settings as GroupedQuery);

for (const [name, layers, experts, billions] of [
  ["gpt-oss-20b", 24, 32, 20.91],
  ["gpt-oss-120b", 36, 128, 116.83],
] as const) {
  test(`${name} has ${billions} billion parameters`, () => {
    const architecture = read({ ...RELEASED, num_hidden_layers: layers, num_local_experts: experts });
    const count = parameterCount(placedParameters(architecture));
    assert.equal(Math.round(count / 1e7) / 100, billions);
    // Window and full attention in turn: two kinds of layers.
    assert.equal(new Set(architecture.layers.map(({ kind }) => kind)).size, 2);
    assert.deepEqual(
      attentions(architecture).map(({ window }) => window),
      Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? 128 : null)),
    );
  });
}

test("defaults are those of its class in transformers", () => {
  const architecture = read();
  const [{ numKeyValueHeads, headDim, bias, normEpsilon, window, sinks }] = attentions(architecture);
  assert.deepEqual([numKeyValueHeads, headDim, bias, normEpsilon, window, sinks], [8, 64, "all", 1e-5, 128, true]);
  assert.deepEqual(architecture.rotary, readArchitecture(RELEASED, "config.json").rotary);
  const [{ expertsPerToken, activation, bias: biased }] = expertsIn(architecture.layers);
  assert.deepEqual([expertsPerToken, biased], [4, true]);
  assert.deepEqual(activation, { name: "clamped_swiglu", limit: 7, alpha: 1.702 });
  assert.equal("rope_parameters" in architecture.source, false, "what is saved has no key more than the file");
});

test("what is stated is read", () => {
  const types = ["full_attention", "sliding_attention", "full_attention"];
  const architecture = read({
    layer_types: types,
    sliding_window: 3,
    attention_bias: false,
    hidden_size: 32,
    head_dim: null,
    swiglu_limit: 2,
  });
  assert.deepEqual(
    attentions(architecture).map(({ window, bias, headDim }) => [window, bias, headDim]),
    [null, 3, null].map((window) => [window, "none", 2]),
  );
});

test("what is not computed is refused by name", () => {
  const refuses = (changes: object, message: RegExp): void =>
    assert.throws(() => read(changes), { name: "UserError", message });
  refuses(
    { layer_types: ["full_attention"] },
    /"layer_types" is \["full_attention"\] \(expected "sliding_attention" or "full_attention" for each of 3 layers/,
  );
  refuses({ layer_types: ["full_attention", "chunked_attention", "full_attention"] }, /"layer_types" is/);
  refuses({ sliding_window: 0 }, /"sliding_window" is 0/);
  refuses({ swiglu_limit: 0 }, /"swiglu_limit" is 0 \(expected a number above 0/);
  refuses({ swiglu_alpha: -1 }, /"swiglu_alpha" is -1/);
  refuses({ experts_per_token: 3 }, /"experts_per_token" is 3 \(expected 4/);
  refuses({ num_local_experts: 0 }, /"num_local_experts" is 0/);
  refuses({ hidden_act: "gelu" }, /"hidden_act" is "gelu"/);
});
