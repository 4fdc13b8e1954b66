// Clipping by the norm of all gradients, where never more than one block's exists: the factor, the updates and the memory,
// against all gradients held at once.
import assert from "node:assert/strict";
import { test } from "node:test";

import { withAdapters } from "../model/adapters.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { freeModel, type Model, placedParameters, randomModel, weightBytes } from "../model/model.js";
import { readArchitecture } from "../families/registry.js";
import { adamw } from "../optim/adamw.js";
import { clipFactor } from "../optim/clip.js";
import type { Optimizer } from "../optim/optimizer.js";
import { lomo } from "../optim/sgd.js";
import { additive } from "../reversible/couplings/additive.js";
import { bdia } from "../reversible/couplings/bdia.js";
import type { Coupling } from "../reversible/coupling.js";
import { METHODS } from "../reversible/methods/registry.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { revffn } from "../reversible/couplings/revffn.js";
import { floatStreams, gridStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { scope } from "../torch/scope.js";
import { byteSize, fromArray, shape, toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import type { Division, Network } from "../network/network.js";
import { OptimizerStates } from "./optimizer-states.js";
import { type StepOptions, type StepResult, trainStep } from "./step.js";
import { randomBatch } from "./testing-batch.js";
import { deviceStore } from "../store/device.js";

setThreads(1);

const CONFIG = { ...TINY_QWEN2_MOE, num_hidden_layers: 4 };
const BATCHES = [randomBatch([7, 19, 3], 1), randomBatch([30], 2)];
const INVERSE = {
  iterations: 3,
  tolerance: 0,
  start: "output",
  damping: 1,
  anderson: false,
  storedHint: false,
} as const;
const ADAM = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };

interface Case {
  coupling: Coupling;
  method: keyof typeof METHODS;
  division?: Division;
  config?: Record<string, unknown>;
  float?: boolean;
}

function makeNetwork({ coupling, division, config = {}, float = false }: Case): Network {
  const plain = readArchitecture({ ...CONFIG, ...config }, "test");
  const architecture = coupling.name.startsWith("revffn")
    ? withAdapters(plain, { sharing: "stream", init: "identity" })
    : plain;
  const model = randomModel(architecture, 3, "float32", TEST_DEVICE);
  const format = float || coupling === ordinary ? floatStreams("float32") : gridStreams("int32", 16);
  return {
    model,
    coupling,
    format,
    division,
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 16,
  };
}

const OPTIONS = { step: 1, learningRate: 1e-2, maxBlockGradNorm: 0, seed: 1 };
const ROUTER = { auxCoef: 0.3, auxType: "pooled", zCoef: 0.1, jitterNoise: 0.05 } as const;

function weightsOf(model: Model): Map<string, number[]> {
  return new Map(
    placedParameters(model.architecture).map(({ layer, spec, prefix }) => [
      prefix + spec.name,
      toArray((layer < 0 ? model.outer : model.blocks[layer])[spec.name]),
    ]),
  );
}

/** A step with an optimiser; the weights after it, and what it measured. */
function stepped(
  of: Case,
  optimizer: Optimizer,
  options: Partial<StepOptions>,
): { weights: Map<string, number[]>; result: StepResult } {
  const network = makeNetwork(of);
  const states = new OptimizerStates(optimizer, network.model);
  const before = ledger(TEST_DEVICE);
  const result = trainStep(network, states, BATCHES, { ...OPTIONS, method: METHODS[of.method], ...options });
  const after = ledger(TEST_DEVICE);
  assert.deepEqual([after.tensors, after.blocks, after.liveBytes], [before.tensors, before.blocks, before.liveBytes]);
  const weights = weightsOf(network.model);
  states.free();
  freeModel(network.model);
  return { weights, result };
}

/** All gradients of a step without clipping, by name. */
function heldGradients(
  of: Case,
  options: Partial<StepOptions>,
): { gradients: Map<string, number[]>; result: StepResult } {
  const gradients = new Map<string, number[]>();
  const holder: Optimizer = {
    name: "holder",
    rule: ({ name }) => ({ layout: {}, update: (_weight, gradient) => void gradients.set(name, toArray(gradient)) }),
  };
  return { result: stepped(of, holder, options).result, gradients };
}

/** The update of every weight, from gradients that were all held at once and scaled by one factor. */
function updatedFrom(
  of: Case,
  optimizer: Optimizer,
  gradients: Map<string, number[]>,
  gradientScale: number,
): Map<string, number[]> {
  const { model } = makeNetwork(of);
  const states = new OptimizerStates(optimizer, model);
  for (const { layer, spec, prefix } of placedParameters(model.architecture)) {
    const parameter = (layer < 0 ? model.outer : model.blocks[layer])[spec.name];
    scope(() => {
      const gradient = fromArray(
        gradients.get(prefix + spec.name) as number[],
        shape(parameter),
        "float32",
        TEST_DEVICE,
      );
      states.update(layer, spec.name, parameter, gradient, {
        step: 1,
        learningRate: OPTIONS.learningRate,
        gradientScale,
        seed: 1,
        change: (stored, change) => change(stored),
      });
    });
  }
  const weights = weightsOf(model);
  states.free();
  freeModel(model);
  return weights;
}

const CASES: Case[] = [
  ...(["reversible", "checkpoint", "checkpoint-offload", "store"] as const).map((method) => ({
    coupling: momentum(0.25),
    method,
  })),
  { coupling: additive, method: "reversible" },
  { coupling: bdia(0.5), method: "reversible" },
  { coupling: revffn(INVERSE), method: "reversible" },
  { coupling: momentum(-0.5), method: "reversible", float: true },
  { coupling: ordinary, method: "checkpoint" },
  { coupling: momentum(0.25), method: "reversible", division: { blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 } },
  { coupling: momentum(0.25), method: "store", division: { blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 } },
  { coupling: momentum(0.25), method: "reversible", config: { tie_word_embeddings: true } },
];

for (const of of CASES) {
  const { coupling, method, division, config, float } = of;
  const name = `${coupling.name}, ${method}${division ? ", divided" : ""}${config ? ", tied" : ""}${float ? ", float streams" : ""}`;
  test(`${name}: one factor for all gradients, and updates with the same bits as if all were held`, () => {
    const { gradients, result: held } = heldGradients(of, { router: ROUTER });
    const total = Math.sqrt([...gradients.values()].flat().reduce((sum, value) => sum + value * value, 0));
    assert.ok(Math.abs(held.gradNorm - total) < 1e-6 * total, `${held.gradNorm} of ${total}`);
    const limit = total / 7;
    for (const optimizer of [lomo({ weightDecay: 0 }), adamw(ADAM)]) {
      const { weights, result } = stepped(of, optimizer, { router: ROUTER, maxGradNorm: limit });
      assert.deepEqual(
        [result.gradNorm, result.loss, result.auxLoss, result.zLoss],
        [held.gradNorm, held.loss, held.auxLoss, held.zLoss],
      );
      assert.deepEqual([result.reconstructionError, result.inverse], [held.reconstructionError, held.inverse]);
      const factor = clipFactor(held.gradNorm, limit);
      assert.ok(Math.abs(factor - limit / (total + 1e-6)) < 1e-6 * factor);
      assert.deepEqual(weights, updatedFrom(of, optimizer, gradients, factor));
    }
    const far = stepped(of, lomo({ weightDecay: 0 }), { router: ROUTER, maxGradNorm: 2 * total }).weights;
    assert.deepEqual(
      far,
      stepped(of, lomo({ weightDecay: 0 }), { router: ROUTER }).weights,
      "below the limit nothing is scaled",
    );
  });
}

test("losses on the router's logits are part of the norm", () => {
  const of: Case = { coupling: momentum(0.25), method: "reversible" };
  const norms = [undefined, { ...ROUTER, jitterNoise: 0 }].map((router) =>
    stepped(of, lomo({ weightDecay: 0 }), { router, maxGradNorm: 1 }),
  );
  assert.ok(Math.abs(norms[0].result.gradNorm - norms[1].result.gradNorm) > 1e-3);
});

test("a gradient that is no finite number is found before anything is updated", () => {
  const network = makeNetwork({ coupling: momentum(0.25), method: "reversible" });
  const states = new OptimizerStates(lomo({ weightDecay: 0 }), network.model);
  // The loss is finite; the router's gradient is not.
  const router = { auxCoef: 3e38, auxType: "layer", zCoef: 3e38, jitterNoise: 0 } as const;
  const before = weightsOf(network.model);
  const alive = ledger(TEST_DEVICE);
  for (const method of ["reversible", "store"] as const) {
    assert.throws(
      () => trainStep(network, states, BATCHES, { ...OPTIONS, method: METHODS[method], router, maxGradNorm: 1 }),
      {
        name: "UserError",
        message: /^the gradient of .* is not a finite number/,
      },
    );
    assert.deepEqual(
      [ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).liveBytes],
      [alive.tensors, alive.liveBytes],
      "alive after the failure",
    );
  }
  assert.deepEqual(weightsOf(network.model), before);
  freeModel(network.model);
});

test("one block's gradient is alive at most; the peak grows by little more than a copy of the last streams", () => {
  for (const [coupling, method, streams] of [
    [momentum(0.25), "reversible", 2],
    [ordinary, "checkpoint", 1],
    [ordinary, "store", 1],
  ] as const) {
    const config = { mlp_only_layers: [], hidden_size: 64, num_hidden_layers: 6, vocab_size: 24 };
    const network = makeNetwork({ coupling, method, config });
    const states = new OptimizerStates(lomo({ weightDecay: 0 }), network.model);
    const batches = [randomBatch([48, 32], 1, 24), randomBatch([80], 2, 24)];
    const peakOf = (maxGradNorm: number): { peak: number; result: StepResult } => {
      const before = ledger(TEST_DEVICE).liveBytes;
      resetPeak(TEST_DEVICE);
      const result = trainStep(network, states, batches, {
        ...OPTIONS,
        learningRate: 0,
        method: METHODS[method],
        maxGradNorm,
      });
      return { peak: ledger(TEST_DEVICE).peakBytes - before, result };
    };
    const [plain, clipped] = [peakOf(0), peakOf(0.1)];
    // Checkpoint also holds the input of the block that is recomputed until its gradient is there.
    const copy = 160 * 64 * 4 * streams;
    const block = Object.values(network.model.blocks[0]).reduce((sum, tensor) => sum + byteSize(tensor), 0);
    assert.equal(clipped.result.gradientBytes, block);
    assert.equal(clipped.result.streamBytes - plain.result.streamBytes, copy);
    assert.equal(clipped.result.keptBytes, plain.result.keptBytes);
    assert.ok(clipped.peak <= plain.peak + 2 * copy, `${method}: ${clipped.peak} and ${plain.peak} + ${copy}`);
    assert.ok(weightBytes(network.model) > 5 * block && 2 * copy < block, "a second block's gradient would show");
    freeModel(network.model);
  }
});
