import assert from "node:assert/strict";
import { test } from "node:test";

import { placedParameters } from "../model/model.js";
import { readArchitecture } from "../families/registry.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { parameterFacts } from "./parameter-facts.js";

const CONFIG = { ...TINY_QWEN2_MOE, num_hidden_layers: 1, mlp_only_layers: [] };

test("experts are as many matrices as a checkpoint names; tables, vectors and the matrices of blocks are told apart", () => {
  const kinds = (tied: boolean, changes: object = {}): Record<string, string> => {
    const architecture = readArchitecture({ ...CONFIG, tie_word_embeddings: tied, ...changes }, "test");
    return Object.fromEntries(
      placedParameters(architecture).map((placed) => {
        const { name, kind, matrices, rows, columns, shape } = parameterFacts(architecture, placed);
        assert.equal(
          matrices * rows * columns,
          shape.reduce((product, size) => product * size, 1),
        );
        return [name.replace("model.layers.0.", ""), `${kind} ${matrices} x ${rows} x ${columns}`];
      }),
    );
  };
  assert.deepEqual(kinds(false), {
    "model.embed_tokens.weight": "embedding 1 x 97 x 32",
    "input_layernorm.weight": "vector 1 x 1 x 32",
    "self_attn.q_proj.weight": "hidden 1 x 32 x 32",
    "self_attn.q_proj.bias": "vector 1 x 1 x 32",
    "self_attn.k_proj.weight": "hidden 1 x 16 x 32",
    "self_attn.k_proj.bias": "vector 1 x 1 x 16",
    "self_attn.v_proj.weight": "hidden 1 x 16 x 32",
    "self_attn.v_proj.bias": "vector 1 x 1 x 16",
    "self_attn.o_proj.weight": "hidden 1 x 32 x 32",
    "post_attention_layernorm.weight": "vector 1 x 1 x 32",
    "mlp.gate.weight": "hidden 1 x 8 x 32",
    "mlp.experts.gate_up_proj": "hidden 16 x 24 x 32",
    "mlp.experts.down_proj": "hidden 8 x 32 x 24",
    "mlp.shared_expert.gate_proj.weight": "hidden 1 x 40 x 32",
    "mlp.shared_expert.up_proj.weight": "hidden 1 x 40 x 32",
    "mlp.shared_expert.down_proj.weight": "hidden 1 x 32 x 40",
    "mlp.shared_expert_gate.weight": "hidden 1 x 1 x 32",
    "model.norm.weight": "vector 1 x 1 x 32",
    "lm_head.weight": "head 1 x 97 x 32",
  });
  const biased = kinds(false, { model_type: "gpt_oss", head_dim: 8 });
  assert.equal(biased["mlp.experts.gate_up_proj"], "hidden 16 x 48 x 32");
  assert.equal(biased["mlp.experts.gate_up_proj_bias"], "vector 1 x 1 x 768");
  assert.equal(biased["mlp.experts.down_proj_bias"], "vector 1 x 1 x 256");
  assert.equal(kinds(true)["model.embed_tokens.weight"], "embedding 1 x 97 x 32");
});
