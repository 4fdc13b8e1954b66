// A configuration at another depth: what belongs to blocks follows, everything else stays.
import assert from "node:assert/strict";
import { test } from "node:test";

import { atDepth } from "./depth.js";

const SOURCE = {
  model_type: "qwen2_moe",
  num_hidden_layers: 3,
  layer_types: ["sliding_attention", "sliding_attention", "full_attention"],
  mlp_only_layers: [0, 2],
  architectures: ["Qwen2MoeForCausalLM"],
  hidden_size: 24,
};

test("lists with an entry per block go on from their beginning, or are cut", () => {
  const deep = atDepth(SOURCE, 5);
  assert.deepEqual(deep.layer_types, [
    "sliding_attention",
    "sliding_attention",
    "full_attention",
    "sliding_attention",
    "sliding_attention",
  ]);
  assert.deepEqual(atDepth(SOURCE, 1).layer_types, ["sliding_attention"]);
  assert.equal(deep.num_hidden_layers, 5);
  assert.deepEqual([deep.architectures, deep.hidden_size], [["Qwen2MoeForCausalLM"], 24]);
  assert.equal(SOURCE.num_hidden_layers, 3);
});

test("numbers of dense layers stay, as far as there are such blocks", () => {
  assert.deepEqual(atDepth(SOURCE, 8).mlp_only_layers, [0, 2]);
  assert.deepEqual(atDepth(SOURCE, 2).mlp_only_layers, [0]);
  assert.deepEqual(atDepth({ ...SOURCE, mlp_only_layers: [0, 1, 2] }, 4).mlp_only_layers, [0, 1, 2]);
});
