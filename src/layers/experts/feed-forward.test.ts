// A layer that routes, in bfloat16: the logits of a router that is wide are made in float32 from float32 weights, others in bfloat16;
// what corrects the choice stays as it is stored. Gradients of all weights come in float32.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { freeContext, makeContext } from "../../model/context.js";
import { freeModel, randomModel, trainedInBlock } from "../../model/model.js";
import { CHOICE_CORRECTION, freshRouting } from "../../model/routing.js";
import { makeGradients, OpenWeights } from "../../model/weights.js";
import { backward, withGrad } from "../../torch/autograd.js";
import { normal_ } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { type DType, dtype, full, shape, toArray, zeros } from "../../torch/tensor.js";

const SIZES = {
  vocab_size: 40,
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 24,
  moe_intermediate_size: 8,
  head_dim: 8,
  initializer_range: 0.3,
};
const CASES: [family: string, own: Record<string, unknown>, logits: DType][] = [
  ["glm4_moe", { n_routed_experts: 6, num_experts_per_tok: 2, first_k_dense_replace: 0 }, "float32"],
  ["ernie4_5_moe", { moe_num_experts: 6, moe_k: 2, moe_layer_start_index: 0 }, "float32"],
  ["minimax_m2", { num_local_experts: 6, num_experts_per_tok: 2 }, "bfloat16"],
];

for (const [family, own, logitsDtype] of CASES) {
  test(`${family}: logits are ${logitsDtype}, gradients float32, and none of what corrects`, () => {
    const architecture = readArchitecture({ model_type: family, ...SIZES, ...own }, "config.json");
    const model = randomModel(architecture, 3, "bfloat16", "cpu");
    const { feedForward } = architecture.layers[0];
    const [block] = model.blocks;
    assert.equal(dtype(block[CHOICE_CORRECTION]), "float32");
    const gradients = makeGradients(trainedInBlock(model, 0));
    assert.ok(!(CHOICE_CORRECTION in gradients));
    const weights = new OpenWeights((name) => block[name], feedForward.parameters, "bfloat16");
    weights.collectInto(gradients);
    const context = makeContext(architecture, [0, 1, 2], [3], {
      computeDtype: "bfloat16",
      device: "cpu",
      routing: freshRouting,
    });
    const seen: DType[] = [];
    context.routerObserver = { observe: (_layer, logits_TE) => void seen.push(dtype(logits_TE)) };
    scope(() => {
      const x_TD = normal_(zeros([3, 16], "float32"), 0, 1);
      const y_TD = withGrad(() => feedForward.evaluate(weights, x_TD, context));
      assert.equal(dtype(y_TD), "float32");
      backward([y_TD], [full(shape(y_TD), 1, "float32")]);
    });
    assert.deepEqual(seen, [logitsDtype]);
    const gate = toArray(gradients["mlp.gate.weight"]);
    assert.ok(gate.some((value) => value !== 0) && gate.every(Number.isFinite));
    weights.close();
    free(...Object.values(gradients));
    freeContext(context);
    freeModel(model);
  });
}
