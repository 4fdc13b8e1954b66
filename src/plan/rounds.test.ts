// Plans from few rounds of every loop against plans from all of them, byte for byte; and how much is counted does not grow with the work.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../families/registry.js";
import { OPTIMIZER_NAMES } from "../optim/registry.js";
import { withEngine } from "../torch/binding.js";
import { type onShadow, operatorCalls } from "../torch/shadow.js";
import { shadowEngine } from "../torch/shadow/engine.js";
import { everyRound, fewRounds } from "../torch/shadow/rounds.js";
import { sizedBatch } from "../train/full-batch.js";
import { planStep } from "./plan.js";
import { type Geometry, type ShadowStep, shadowStep } from "./shadow-step.js";
import { type Point, settingsOf, SIZES } from "./testing-grid.js";

const NEWER = { version: "2.10.0", threads: 2, cudaDevices: 1, config: "" };

/** The engine that counts few rounds or all, as it is here or with fused attention. Rounds that are not alike are an error. */
const engineOf =
  (repeat: typeof everyRound, fused: boolean): typeof onShadow =>
  (fn) =>
    withEngine((real) => shadowEngine(fused ? { ...real, hasOp: () => true, engine: () => NEWER } : real, repeat), fn);

function geometryOf({ family, sizes = {} }: Pick<Point, "family" | "sizes">): Geometry {
  const source = { ...SIZES, model_type: family, ...sizes };
  return { architecture: readArchitecture(source, "test"), dtypeOf: () => "bfloat16" };
}

const heads = (query: number, key: number) => ({
  num_attention_heads: query,
  num_key_value_heads: key,
  head_dim: 16,
  hidden_size: 16 * query,
});
/** Several tiles for an optimizer, and more experts than rounds that are walked. */
const WIDE = { vocab_size: 100_003, num_experts: 16, num_local_experts: 16, moe_intermediate_size: 300 };
const ROUTER = { router_aux_loss_coef: 0.01, router_z_loss_coef: 0.01, router_jitter_noise: 0.01 };
const TILES = { tile_tokens: 64, loss_tile_tokens: 32 };

const POINTS: Point[] = [
  // One tile, two, many, and odd ones.
  ...[2, 63, 64, 65, 256, 513, 1024, 1537, 2048, 4100].map((length) => ({
    family: "qwen2_moe",
    flags: { ...TILES, max_length: length },
  })),
  // Few query heads to a key head and many, and numbers of them that make tiles and chunks meet only after hundreds.
  ...[
    [4, 4],
    [8, 1],
    [7, 1],
    [12, 2],
  ].map(([query, key]) => ({ family: "qwen3_moe", sizes: heads(query, key), flags: { ...TILES, max_length: 3001 } })),
  ...[64, 100, 600, 2000].map((window) => ({
    family: "mixtral",
    sizes: { sliding_window: window },
    flags: { ...TILES, max_length: 3500, per_device_train_batch_size: 2 },
  })),
  ...["momentum", "bdia", "additive", "revffn"].flatMap((coupling) => [
    {
      family: "olmoe",
      flags: { ...TILES, coupling, max_length: 1000, per_device_train_batch_size: 7, max_grad_norm: 1 },
    },
    ...["checkpoint", "store"].map((method) => ({
      family: "qwen2_moe",
      flags: { ...TILES, ...ROUTER, coupling, method, max_length: 700, per_device_train_batch_size: 9 },
    })),
  ]),
  ...OPTIMIZER_NAMES.map((optimizer) => ({
    family: "qwen3_moe",
    sizes: WIDE,
    flags: { ...TILES, optimizer, max_length: 640, ...(optimizer === "galore_adamw" ? { galore_rank: 8 } : {}) },
  })),
  ...[1, 2, 3].map((size) => ({
    family: "mixtral",
    sizes: WIDE,
    flags: {
      ...TILES,
      ...ROUTER,
      expert_group_size: size,
      optimizer: "lomo",
      max_length: 900,
      gradient_accumulation_steps: 2,
    },
  })),
  {
    family: "qwen3_moe",
    flags: { ...TILES, blocks_per_step: 2, checkpoint_first_blocks: 1, max_length: 999, compute_dtype: "bfloat16" },
  },
  { family: "qwen3_moe", flags: { ...TILES, method: "checkpoint-offload", expert_group_size: 2, max_length: 999 } },
];

for (const [where, device, fused] of [
  ["this libtorch", "cpu", false],
  ["fused attention", "cpu", true],
  ["fused attention on a GPU", "cuda", true],
] as const) {
  test(`few rounds give what all of them give, byte for byte: ${POINTS.length} plans with ${where}`, () => {
    let [few, all] = [0, 0];
    for (const point of POINTS) {
      const settings = settingsOf({ per_device_train_batch_size: 1, ...point.flags, device });
      const batches = new Array(settings.gradient_accumulation_steps).fill(sizedBatch(settings));
      const planned = (repeat: typeof everyRound): ShadowStep =>
        shadowStep(settings, geometryOf(point), batches, { engine: engineOf(repeat, fused) });
      const short = planned(fewRounds);
      few += operatorCalls();
      const whole = planned(everyRound);
      all += operatorCalls();
      assert.deepEqual(short, whole, JSON.stringify(point));
    }
    assert.ok(few < all / 2, `${few} of ${all} operators`);
  });
}

test("as much is counted for long rows as for short ones, and for many rows as for few", () => {
  for (const point of [
    { family: "qwen2_moe", sizes: heads(16, 16) },
    { family: "qwen3_moe", sizes: heads(32, 4) },
    { family: "mixtral", sizes: { ...heads(8, 2), sliding_window: 4096 } },
  ]) {
    for (const fused of [false, true]) {
      const callsOf = (flags: Point["flags"]): number => {
        const settings = settingsOf({ per_device_train_batch_size: 1, ...flags });
        shadowStep(settings, geometryOf(point), [sizedBatch(settings)], { engine: engineOf(fewRounds, fused) });
        return operatorCalls();
      };
      const ofLengths = [15, 17, 20, 24].map((power) => callsOf({ max_length: 2 ** power }));
      assert.equal(new Set(ofLengths).size, 1, `${JSON.stringify(point)}: ${ofLengths}`);
      const ofRows = [8, 64, 1024].map((rows) => callsOf({ max_length: 4096, per_device_train_batch_size: rows }));
      assert.equal(new Set(ofRows).size, 1, `${JSON.stringify(point)}: ${ofRows}`);
    }
  }
});

test("the largest numbers that settings take end in a plan whose parts are its peak", () => {
  const plan = (flags: Point["flags"], sizes: Record<string, unknown> = {}) =>
    planStep(
      settingsOf({ per_device_train_batch_size: 1, max_length: 64, ...flags }),
      geometryOf({ family: "qwen3_moe", sizes }),
    );
  const large: [Point["flags"], Record<string, unknown>?][] = [
    [{ max_length: 2 ** 24 }],
    [{ per_device_train_batch_size: 2 ** 16 }],
    [{ gradient_accumulation_steps: 65_536 }],
    [{}, { num_hidden_layers: 512 }],
  ];
  for (const [flags, sizes] of large) {
    const { peakBytes, ...parts } = plan(flags, sizes).terms;
    assert.ok(Number.isSafeInteger(peakBytes));
    assert.equal(
      Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
      peakBytes,
    );
  }
  const beyond = { max_length: 2 ** 24, gradient_accumulation_steps: 65_536, method: "store" } as const;
  assert.throws(() => plan(beyond, { intermediate_size: 2 ** 17, moe_intermediate_size: 2 ** 17 }), {
    name: "UserError",
    message: / takes more than 8192 TiB, which is beyond counting/,
  });
});
