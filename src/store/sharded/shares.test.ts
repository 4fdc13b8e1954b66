// Who holds what: every row once, what must stay together on one rank, and bytes that are nearly the same on all.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { placedParameters } from "../../model/model.js";
import { elementsOf } from "../../optim/optimizer.js";
import { heldBytes, sharesOf } from "./planned-shares.js";

const QWEN3_30B = {
  ...{ model_type: "qwen3_moe", hidden_size: 2048, num_hidden_layers: 48, num_attention_heads: 32, head_dim: 128 },
  ...{
    num_key_value_heads: 4,
    num_experts: 128,
    num_experts_per_tok: 8,
    moe_intermediate_size: 768,
    vocab_size: 151_936,
  },
  ...{
    intermediate_size: 6144,
    max_position_embeddings: 40_960,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    hidden_act: "silu",
  },
  ...{ rms_norm_eps: 1e-6, rope_theta: 1e6, tie_word_embeddings: false, norm_topk_prob: true, initializer_range: 0.02 },
  attention_bias: false,
};
/** Few experts, whose number no number of ranks divides, beside much that is not divided. */
const FEW = { ...QWEN3_30B, num_hidden_layers: 12, num_experts: 7, num_experts_per_tok: 2 };
const DENSE = { ...QWEN3_30B, mlp_only_layers: Array.from({ length: 48 }, (_, i) => i) };

const stateOf = (elementwise: boolean) => (placed: { spec: { shape: number[] } }) => ({
  layout: { m: { shape: placed.spec.shape, dtype: "float32" as const } },
  elementwise,
});

for (const [name, source] of Object.entries({ QWEN3_30B, FEW, DENSE })) {
  for (const world of [2, 3, 8, 64]) {
    for (const elementwise of [true, false]) {
      test(`${name} over ${world} ranks, words ${elementwise ? "apart" : "together"}`, () => {
        const planned = placedParameters(readArchitecture(source, "test")).map((placed) => ({
          placed,
          dtype: "bfloat16" as const,
        }));
        const options = { ranks: { world }, stateOf: stateOf(elementwise), stateBlock: 256 };
        const shares = sharesOf(planned, options);
        for (const { placed } of planned) {
          const { shape, experts } = placed.spec;
          const rows = shares.get(placed.prefix + placed.spec.name) ?? [];
          assert.equal(rows.length, world);
          let end = 0;
          for (const { first, count } of rows.filter(({ count }) => count > 0)) {
            assert.equal(first, end);
            end += count;
          }
          assert.equal(end, shape[0], placed.spec.name);
          const isDivided = rows.filter(({ count }) => count > 0).length > 1;
          if (isDivided) assert.ok(experts || (placed.layer < 0 && elementwise), placed.spec.name);
        }
        const held = heldBytes(planned, shares, options).map(({ weightBytes, stateBytes }) => weightBytes + stateBytes);
        const mean = held.reduce((sum, each) => sum + each, 0) / world;
        const sizes = planned.map(({ placed: { spec, layer } }) => ({
          bytes: elementsOf(spec.shape) * 6,
          isDivided: spec.experts !== undefined || (layer < 0 && spec.shape.length === 2 && elementwise),
          experts: spec.experts ? spec.shape[0] : 1,
        }));
        // What stays together can be more than a share: then it is the most. And experts are dealt out one by one.
        const largest = Math.max(...sizes.map(({ bytes, isDivided }) => (isDivided ? 0 : bytes)));
        const expert = Math.max(...sizes.map(({ bytes, experts }) => (experts > 1 ? bytes / experts : 0)));
        const most = Math.max(mean, largest) + Math.max(0.02 * mean, expert);
        assert.ok(Math.max(...held) <= most, `${Math.max(...held) / mean} of the mean`);
      });
    }
  }
}

test("experts that share a block of state stay together", () => {
  const tiny = {
    ...QWEN3_30B,
    hidden_size: 24,
    moe_intermediate_size: 12,
    num_experts: 8,
    num_hidden_layers: 2,
    head_dim: 8,
  };
  const planned = placedParameters(readArchitecture(tiny, "test")).map((placed) => ({
    placed,
    dtype: "float32" as const,
  }));
  const shares = sharesOf(planned, { ranks: { world: 3 }, stateOf: stateOf(true), stateBlock: 256 });
  for (const { placed } of planned.filter(({ placed }) => placed.spec.experts)) {
    const each = elementsOf(placed.spec.shape.slice(1));
    for (const { first } of shares.get(placed.prefix + placed.spec.name) ?? []) assert.equal((first * each) % 256, 0);
  }
});
