// Experts updated in groups: the same bits as with a block's gradient whole, whatever the coupling, method and optimizer, and less memory.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Batch } from "../data/batches.js";
import { withAdapters } from "../model/adapters.js";
import { EXPERT_MATRICES } from "../model/expert-rows.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { freeModel, placedParameters, randomModel } from "../model/model.js";
import { readArchitecture } from "../families/registry.js";
import { additive } from "../reversible/couplings/additive.js";
import { bdia } from "../reversible/couplings/bdia.js";
import type { Coupling } from "../reversible/coupling.js";
import { METHODS } from "../reversible/methods/registry.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { revffn } from "../reversible/couplings/revffn.js";
import { floatStreams, gridStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { onReference } from "../torch/kernels/kernels.js";
import { ledger, limitMemory, NO_LIMIT, resetPeak } from "../torch/memory.js";
import { byteSize, type DType, toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { makeOptimizer, OPTIMIZER_NAMES } from "../optim/registry.js";
import type { Division, Network } from "../network/network.js";
import { OptimizerStates } from "./optimizer-states.js";
import { networkOf } from "../train/prepare-network.js";
import { resolveSettings } from "../train/settings/settings.js";
import { type StepOptions, type StepResult, trainStep } from "./step.js";
import { randomBatch } from "./testing-batch.js";
import { deviceStore } from "../store/device.js";

setThreads(1);

// Expert matrices of 1536 and 768 elements: whole blocks of 8-bit state.
const CONFIG = { ...TINY_QWEN2_MOE, num_hidden_layers: 4, mlp_only_layers: [1] };
const EXPERTS = CONFIG.num_experts;
const BATCHES = [randomBatch([7, 19, 3], 1), randomBatch([30], 2)];
const INVERSE = {
  iterations: 3,
  tolerance: 0,
  start: "output",
  damping: 1,
  anderson: false,
  storedHint: false,
} as const;
const ROUTER = { auxCoef: 0.3, auxType: "pooled", zCoef: 0.1, jitterNoise: 0.05 } as const;

interface Case {
  coupling?: Coupling;
  method?: keyof typeof METHODS;
  division?: Division;
  config?: Record<string, unknown>;
  optimizer?: string;
  flags?: Record<string, string | number>;
  weights?: DType;
  compute?: DType;
  tileTokens?: number;
  options?: Partial<StepOptions>;
  batches?: Batch[];
}

function makeNetwork({
  coupling = momentum(0.25),
  division,
  config,
  weights = "float32",
  compute = "float32",
  tileTokens,
}: Case): Network {
  const plain = readArchitecture({ ...CONFIG, ...config }, "test");
  const architecture = coupling.name.startsWith("revffn")
    ? withAdapters(plain, { sharing: "stream", init: "identity" })
    : plain;
  const model = randomModel(architecture, 3, weights, TEST_DEVICE);
  const format = coupling === ordinary ? floatStreams("float32") : gridStreams("int32", 16);
  return {
    model,
    coupling,
    format,
    division,
    computeDtype: compute,
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 16,
    tileTokens,
  };
}

/** Two steps, and that nothing stays alive; weights, state and what the second step measured. */
function stepped(of: Case, expertGroupSize: number): { weights: Map<string, number[]>; result: StepResult } {
  const network = makeNetwork(of);
  const { model } = network;
  const { optimizer = "adamw", flags = {}, method = "reversible", batches = BATCHES } = of;
  const { settings } = resolveSettings({
    flags: { model: "-", train_file: "-", output_dir: "-", optimizer, ...flags },
  });
  const states = new OptimizerStates(makeOptimizer(settings, "float32"), model, {
    weightsCorrection: settings.weights_correction !== "none",
  });
  try {
    const alive = ledger(TEST_DEVICE);
    const step = (count: number): StepResult =>
      trainStep(network, states, batches, {
        ...{ step: count, learningRate: 1e-2, maxBlockGradNorm: 0, seed: 1, method: METHODS[method], expertGroupSize },
        ...of.options,
      });
    step(1);
    const result = step(2);
    assert.deepEqual(
      [ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).blocks, ledger(TEST_DEVICE).liveBytes],
      [alive.tensors, alive.blocks, alive.liveBytes],
    );
    const tensors = placedParameters(model.architecture).map(
      ({ layer, spec, prefix }) =>
        [prefix + spec.name, (layer < 0 ? model.outer : model.blocks[layer])[spec.name]] as const,
    );
    const all = [...tensors, ...states.tensors().map(({ name, tensor }) => [`state ${name}`, tensor] as const)];
    return { weights: new Map(all.map(([name, tensor]) => [name, toArray(tensor)])), result };
  } finally {
    states.free();
    freeModel(model);
  }
}

const RANK: Record<string, Record<string, number>> = { galore_adamw: { galore_rank: 5, galore_update_gap: 1 } };

const CASES: Record<string, Case> = {
  momentum: {},
  "momentum without bits": { coupling: momentum(-1) },
  additive: { coupling: additive },
  bdia: { coupling: bdia(0.5) },
  revffn: { coupling: revffn(INVERSE) },
  "ordinary, checkpoint": { coupling: ordinary, method: "checkpoint" },
  "checkpoint-offload": { method: "checkpoint-offload" },
  "units of two blocks between ordinary ends": { division: { blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 } },
  "tiles of tokens, losses of the router": { tileTokens: 11, options: { router: ROUTER } },
  "bfloat16 products": { compute: "bfloat16" },
  "bfloat16 weights with a correction": {
    weights: "bfloat16",
    flags: { weights_dtype: "bfloat16", weights_correction: "8bit" },
  },
  ...Object.fromEntries(OPTIMIZER_NAMES.map((optimizer) => [optimizer, { optimizer }])),
  ...Object.fromEntries(
    ["adamw", "adamw8bit", "adafactor", "muon"].map((optimizer) => [
      `experts with biases, ${optimizer}`,
      { optimizer, config: { model_type: "gpt_oss", head_dim: 8 }, options: { router: ROUTER } },
    ]),
  ),
  galore_adamw: { optimizer: "galore_adamw", flags: RANK.galore_adamw },
};

for (const [name, of] of Object.entries(CASES)) {
  test(`${name}: groups of 1, 3 and all experts leave the bits of weights and state`, () => {
    const whole = stepped(of, 0);
    for (const size of name === "momentum" ? [1, 3, EXPERTS, 100] : [3]) {
      const { weights, result } = stepped(of, size);
      for (const [parameter, values] of whole.weights)
        assert.deepEqual(weights.get(parameter), values, `${parameter}, ${size} at a time`);
      assert.equal(result.loss, whole.result.loss);
      assert.ok(Math.abs(result.gradNorm / whole.result.gradNorm - 1) < 1e-6);
    }
  });
}

for (const options of [{ maxBlockGradNorm: 0.05 }, { maxGradNorm: 0.1 }] as Partial<StepOptions>[]) {
  test(`${Object.keys(options)[0]}: the same factors, up to the order in which squares are added`, () => {
    const of: Case = { optimizer: "lomo", options };
    const [whole, groups] = [stepped(of, 0), stepped(of, 3)];
    const [free] = [stepped({ optimizer: "lomo" }, 3)];
    let clipped = 0;
    for (const [name, values] of whole.weights) {
      const [ours, unclipped] = [groups.weights.get(name) as number[], free.weights.get(name) as number[]];
      values.forEach((value, i) => {
        assert.ok(
          Math.abs(ours[i] - value) <= 1e-6 * Math.max(1, Math.abs(value)),
          `${name}[${i}]: ${ours[i]}, not ${value}`,
        );
        clipped = Math.max(clipped, Math.abs(unclipped[i] - value));
      });
    }
    assert.ok(clipped > 1e-4, "the limit had an effect");
    assert.ok(Math.abs(groups.result.gradNorm / whole.result.gradNorm - 1) < 1e-6);
  });
}

for (const optimizer of OPTIMIZER_NAMES) {
  for (const way of ["kernels", "reference"] as const) {
    test(`${optimizer}: bfloat16 weights are rounded by the same bits in groups as whole, ${way}`, () => {
      const of: Case = { weights: "bfloat16", optimizer, flags: { weights_dtype: "bfloat16", ...RANK[optimizer] } };
      const both = (): void => {
        const [groups, whole] = [stepped(of, 3), stepped(of, 0)];
        assert.deepEqual(groups.weights, whole.weights);
      };
      if (way === "kernels") both();
      else onReference(both);
    });
  }
}

test("a group's gradient exists at a time, beside the rows it is made of", () => {
  const config = {
    hidden_size: 64,
    moe_intermediate_size: 48,
    num_experts: 16,
    mlp_only_layers: [],
    num_experts_per_tok: 2,
  };
  const peakOf = (expertGroupSize: number): { peak: number; gradientBytes: number; experts: number; block: number } => {
    const network = makeNetwork({ config });
    const states = new OptimizerStates({ name: "none", rule: () => ({ layout: {}, update: () => {} }) }, network.model);
    const before = ledger(TEST_DEVICE).liveBytes;
    resetPeak(TEST_DEVICE);
    const { gradientBytes } = trainStep(network, states, [randomBatch([16], 1)], {
      ...{ step: 1, learningRate: 0, maxBlockGradNorm: 1, seed: 1, method: METHODS.reversible, expertGroupSize },
    });
    const peak = ledger(TEST_DEVICE).peakBytes - before;
    const [parameters] = network.model.blocks;
    const block = Object.values(parameters).reduce((sum, tensor) => sum + byteSize(tensor), 0);
    const experts = Object.values(EXPERT_MATRICES).reduce((sum, name) => sum + byteSize(parameters[name]), 0);
    freeModel(network.model);
    return { peak, gradientBytes, experts, block };
  };
  const [whole, groups] = [peakOf(0), peakOf(4)];
  assert.equal(whole.gradientBytes, whole.block);
  // With how many there are of each expert.
  const rows = 16 * 2 * (2 * 64 + 3 * 48) * 4 + 16 * 8;
  // The larger of the two stacked matrices, a quarter of it.
  const group = ((2 / 3) * whole.experts) / 4;
  assert.equal(groups.gradientBytes, whole.block - whole.experts + rows + group);
  assert.ok(whole.peak - groups.peak > 0.6 * whole.experts, `${whole.peak} and ${groups.peak}`);
});

test("with two threads as with one: small groups of rows and large, products that a thread does alone and together", (t) => {
  t.after(() => setThreads(1));
  const config = {
    hidden_size: 200,
    moe_intermediate_size: 136,
    num_experts: 4,
    num_experts_per_tok: 2,
    num_hidden_layers: 1,
    mlp_only_layers: [],
  };
  for (const threads of [1, 2, 3]) {
    setThreads(threads);
    for (const batches of [[randomBatch([700], 1)], [randomBatch([1100], 1), randomBatch([20], 2)]]) {
      const of: Case = { config, optimizer: "lomo", batches };
      assert.deepEqual(stepped(of, 3).weights, stepped(of, 0).weights, `${threads} threads`);
    }
  }
});

test("a gradient that is no finite number, and a backward pass that runs out of memory, leave nothing alive", {
  skip: TEST_DEVICE !== "cpu" && "only the CPU has a limit",
}, (t) => {
  t.after(() => limitMemory(NO_LIMIT));
  const network = makeNetwork({});
  const states = new OptimizerStates({ name: "none", rule: () => ({ layout: {}, update: () => {} }) }, network.model);
  const options = {
    step: 1,
    learningRate: 1,
    maxBlockGradNorm: 1,
    seed: 1,
    method: METHODS.reversible,
    expertGroupSize: 2,
  };
  const alive = ledger(TEST_DEVICE);
  const nothingMore = (): void =>
    assert.deepEqual([ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).liveBytes], [alive.tensors, alive.liveBytes]);
  const router = { auxCoef: 3e38, auxType: "layer", zCoef: 3e38, jitterNoise: 0 } as const;
  for (const maxBlockGradNorm of [0, 1]) {
    assert.throws(() => trainStep(network, states, BATCHES, { ...options, maxBlockGradNorm, router }), {
      name: "UserError",
      message: /^the gradient of (block \d|the embedding or head) is not a finite number/,
    });
    nothingMore();
  }
  resetPeak(TEST_DEVICE);
  trainStep(network, states, BATCHES, options);
  const peak = ledger(TEST_DEVICE).peakBytes;
  let failed = 0;
  for (let limit = peak - 1; limit > alive.liveBytes; limit -= 997) {
    limitMemory(limit);
    assert.throws(() => trainStep(network, states, BATCHES, options), /refused/);
    nothingMore();
    failed++;
  }
  limitMemory(NO_LIMIT);
  assert.ok(failed > 50);
  freeModel(network.model);
});

test("what cannot be is refused: activations stored, state that experts share, no experts at all", () => {
  const network = makeNetwork({});
  const states = new OptimizerStates({ name: "none", rule: () => ({ layout: {}, update: () => {} }) }, network.model);
  const options = { step: 1, learningRate: 1, maxBlockGradNorm: 1, seed: 1, method: METHODS.store, expertGroupSize: 2 };
  assert.throws(
    () => trainStep(network, states, BATCHES, options),
    /^UserError: step 1: method store makes every gradient of a block at once/,
  );
  freeModel(network.model);
  const refusal = (sizes: Record<string, unknown>, flags: Record<string, string | number>): string => {
    const { settings } = resolveSettings({
      flags: { model: "M", train_file: "-", output_dir: "-", expert_group_size: 2, ...flags },
    });
    const model = randomModel(readArchitecture({ ...CONFIG, ...sizes }, "test"), 3, "float32", TEST_DEVICE);
    try {
      networkOf(settings, model);
      return "";
    } catch (failure) {
      return (failure as Error).message;
    } finally {
      freeModel(model);
    }
  };
  assert.equal(refusal({}, { optimizer: "adamw8bit" }), "");
  assert.equal(refusal({ moe_intermediate_size: 23 }, {}), "");
  assert.match(
    refusal({ moe_intermediate_size: 23 }, { optimizer: "adamw8bit" }),
    /^expert_group_size: 2 would divide blocks of 256 elements that experts of 32 x 23 share in the state of adamw8bit\. Remove it/,
  );
  assert.equal(
    refusal({ mlp_only_layers: [0, 1, 2, 3] }, {}),
    "expert_group_size: 2 has no effect: no layer of M has experts. Remove it.",
  );
});
