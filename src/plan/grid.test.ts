// Planned and measured peaks side by side. The measured ones are the allocator's, in the same process; what differs is the
// guess that tokens spread evenly over experts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OPTIMIZER_NAMES } from "../optim/registry.js";
import { compare, type Point } from "./testing-grid.js";

const FAMILIES = ["qwen2_moe", "qwen3_moe", "mixtral", "olmoe", "glm4_moe", "minimax_m2", "ernie4_5_moe"];
type Flags = Point["flags"];

const TOLERANCE = 0.05;

const WAYS: Flags[] = [
  {},
  { gamma: "-1" },
  { coupling: "bdia", gamma: "0.5" },
  { coupling: "additive" },
  { coupling: "revffn" },
  { method: "checkpoint", coupling: "ordinary" },
  { method: "store", coupling: "ordinary" },
];
const OPTIMIZERS = OPTIMIZER_NAMES.filter((name) => name !== "adamw");
const BFLOAT16: Flags = { weights_dtype: "bfloat16", compute_dtype: "bfloat16" };
const ROUTER: Flags = { router_aux_loss_coef: "0.01", router_z_loss_coef: "0.01", router_jitter_noise: "0.01" };

/** Of families with latent attention; no width is that of another part. */
const LATENT = {
  ...{ num_key_value_heads: 4, n_routed_experts: 8, n_shared_experts: 1, kv_lora_rank: 32, q_lora_rank: 24 },
  ...{ qk_nope_head_dim: 16, qk_rope_head_dim: 8, v_head_dim: 20, first_k_dense_replace: 1, n_group: 2, topk_group: 1 },
};

/** Windows in turn, sinks, experts with biases. */
const BIASED = { head_dim: 24, sliding_window: 48, swiglu_limit: 1 };

const GRID: Point[] = [
  ...FAMILIES.flatMap((family) =>
    WAYS.map((way) => ({ family, flags: { ...way, max_length: 64, per_device_train_batch_size: 3 } })),
  ),
  // Short rows, so that the optimiser's own needs are seen.
  ...OPTIMIZERS.map((optimizer) => ({
    family: "qwen2_moe",
    flags: {
      optimizer,
      max_length: 16,
      per_device_train_batch_size: 1,
      ...(optimizer === "galore_adamw" ? { galore_rank: 8 } : {}),
    },
  })),
  ...["qwen2_moe", "olmoe", "minimax_m2"].flatMap((family) => [
    { family, flags: { ...BFLOAT16, max_length: 96, per_device_train_batch_size: 2 } },
    {
      family,
      flags: {
        ...BFLOAT16,
        weights_correction: "8bit",
        optimizer: "adalomo",
        max_length: 96,
        per_device_train_batch_size: 2,
      },
    },
    { family, flags: { weights_dtype: "bfloat16", max_length: 40, per_device_train_batch_size: 5 } },
    {
      family,
      flags: { compute_dtype: "bfloat16", method: "checkpoint", max_length: 96, per_device_train_batch_size: 2 },
    },
    {
      family,
      flags: { compute_dtype: "bfloat16", coupling: "additive", max_length: 128, per_device_train_batch_size: 1 },
    },
  ]),
  { family: "mixtral", flags: { max_length: 512, per_device_train_batch_size: 1, gradient_accumulation_steps: 3 } },
  {
    family: "mixtral",
    flags: { max_length: 256, per_device_train_batch_size: 1, loss_tile_tokens: 32, tile_tokens: 64 },
  },
  { family: "mixtral", flags: { max_length: 192, per_device_train_batch_size: 1 }, sizes: { sliding_window: 64 } },
  { family: "qwen3_moe", flags: { max_length: 96, per_device_train_batch_size: 2, blocks_per_step: 2 } },
  { family: "qwen3_moe", flags: { max_length: 96, per_device_train_batch_size: 2, checkpoint_first_blocks: 1 } },
  ...["qwen2_moe", "mixtral"].flatMap((family): Point[] => [
    { family, flags: { expert_group_size: 2, max_length: 16, per_device_train_batch_size: 1 } },
    {
      family,
      flags: {
        ...BFLOAT16,
        expert_group_size: 3,
        max_length: 96,
        per_device_train_batch_size: 1,
        gradient_accumulation_steps: 2,
      },
    },
    {
      family,
      flags: { weights_dtype: "bfloat16", optimizer: "lomo", expert_group_size: 1, tile_tokens: 16, max_length: 40 },
    },
  ]),
  { family: "qwen2_moe", flags: { ...ROUTER, max_length: 96, per_device_train_batch_size: 2 } },
  {
    family: "qwen2_moe",
    flags: { freeze_router: true, stream: "int64", max_length: 96, per_device_train_batch_size: 2 },
  },
  {
    family: "qwen2_moe",
    flags: { stream: "float32", max_length: 96, per_device_train_batch_size: 2 },
    sizes: { mlp_only_layers: [1] },
  },
  { family: "olmoe", flags: { max_grad_norm: "1", max_length: 96, per_device_train_batch_size: 2 } },
  {
    family: "qwen3_moe",
    flags: { max_grad_norm: "1", gamma: "-0.0625", max_length: 96, per_device_train_batch_size: 2 },
  },
  { family: "mixtral", flags: { gamma: "-1/256", max_length: 96, per_device_train_batch_size: 2 } },
  { family: "olmoe", flags: { max_length: 96, per_device_train_batch_size: 2 }, sizes: { tie_word_embeddings: true } },
  { family: "deepseek_v3", flags: { max_length: 1500, per_device_train_batch_size: 1 }, sizes: LATENT },
  { family: "deepseek_v3", flags: { coupling: "revffn", max_length: 64 }, sizes: LATENT },
  { family: "deepseek_v3", flags: { ...BFLOAT16, max_length: 96, per_device_train_batch_size: 2 }, sizes: LATENT },
  {
    family: "deepseek_v2",
    flags: { method: "store", coupling: "ordinary", max_length: 512, per_device_train_batch_size: 1 },
    sizes: { ...LATENT, q_lora_rank: null, topk_method: "group_limited_greedy" },
  },
  {
    family: "glm4_moe_lite",
    flags: { ...BFLOAT16, max_grad_norm: "1", expert_group_size: 2, max_length: 300, per_device_train_batch_size: 2 },
    sizes: { ...LATENT, v_head_dim: 40 },
  },
  { family: "gpt_oss", flags: { max_length: 1500, per_device_train_batch_size: 1 }, sizes: BIASED },
  { family: "gpt_oss", flags: { coupling: "revffn", max_length: 64 }, sizes: BIASED },
  {
    family: "gpt_oss",
    flags: { ...BFLOAT16, expert_group_size: 3, max_length: 200, per_device_train_batch_size: 2 },
    sizes: BIASED,
  },
  {
    family: "gpt_oss",
    flags: { method: "store", coupling: "ordinary", optimizer: "adafactor", max_length: 300 },
    sizes: BIASED,
  },
];

test(`planned peaks are within 5 % of measured ones at ${GRID.length} places`, (t) => {
  const missed: string[] = [];
  const errors = GRID.map((point) => {
    const { error, planned, measured } = compare(point);
    const where = `${point.family} ${JSON.stringify(point.flags)}`;
    if (!(Math.abs(error) < TOLERANCE)) {
      missed.push(
        `${where}: planned ${JSON.stringify(planned.terms)}, measured ${JSON.stringify(measured)}, ${(100 * error).toFixed(2)} %`,
      );
    }
    for (const term of ["weightBytes", "stateBytes", "gradientBytes", "streamBytes"] as const)
      assert.equal(planned.terms[term], measured[term], `${where}: ${term}`);
    return Math.abs(error);
  }).sort((a, b) => a - b);
  assert.deepEqual(missed, []);
  assert.ok(GRID.length >= 40);
  const [median, worst] = [errors[errors.length >> 1], errors[errors.length - 1]];
  t.diagnostic(`median error ${(100 * median).toFixed(3)} %, worst ${(100 * worst).toFixed(3)} %`);
});
