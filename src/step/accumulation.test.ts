// Gradient accumulation: micro-batches of a step are one batch, whatever their sizes, with every kind of clipping. Equal to the
// last bit where sums are taken in the same order, else within float32's order of sums.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Batch } from "../data/batches.js";
import { freeModel, placedParameters, randomModel } from "../model/model.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { readArchitecture } from "../families/registry.js";
import type { Optimizer } from "../optim/optimizer.js";
import { lomo } from "../optim/sgd.js";
import { METHODS } from "../reversible/methods/registry.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams, gridStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import type { Network } from "../network/network.js";
import { OptimizerStates } from "./optimizer-states.js";
import { type StepResult, trainStep } from "./step.js";
import { deviceStore } from "../store/device.js";

setThreads(1);

const CONFIG = {
  ...TINY_QWEN2_MOE,
  num_experts: 6,
  num_experts_per_tok: 2,
  num_hidden_layers: 3,
  mlp_only_layers: [1],
};

/** One document of distinct tokens, of which the last `trained` labels but one are trained. */
function document(length: number, trained: number, factor: number): Batch {
  const tokens = Int32Array.from({ length }, (_, i) => (i * factor + 5) % 97);
  const labels = tokens.map((_, i) => (i + 1 < length && i + 1 >= length - trained ? tokens[i + 1] : -100));
  return { tokens, labels, positions: tokens.map((_, i) => i), segments: [length], trainedTokens: trained };
}

function packed(batches: Batch[]): Batch {
  const all = (rows: Int32Array[]): Int32Array => Int32Array.from(rows.flatMap((row) => [...row]));
  return {
    tokens: all(batches.map(({ tokens }) => tokens)),
    labels: all(batches.map(({ labels }) => labels)),
    positions: all(batches.map(({ positions }) => positions)),
    segments: batches.flatMap(({ segments }) => segments),
    trainedTokens: batches.reduce((sum, { trainedTokens }) => sum + trainedTokens, 0),
  };
}

interface Clipping {
  maxGradNorm?: number;
  maxBlockGradNorm: number;
}
const NONE: Clipping = { maxBlockGradNorm: 0 };
const KINDS: [string, Clipping][] = [
  ["no clipping", NONE],
  ["each block clipped", { maxBlockGradNorm: 0.05 }],
  ["all gradients clipped", { maxGradNorm: 0.1, maxBlockGradNorm: 0 }],
];

/** One step: gradients as optimisers get them, weights' movement at a learning rate of 1, and figures. */
function step(
  batches: Batch[],
  method: keyof typeof METHODS,
  clipping = NONE,
): { values: number[]; result: StepResult } {
  const model = randomModel(readArchitecture(CONFIG, "test"), 3, "float32", TEST_DEVICE);
  const rebuilt = method === "reversible";
  const network: Network = {
    model,
    coupling: rebuilt ? momentum(0.25) : ordinary,
    format: rebuilt ? gridStreams("int32", 16) : floatStreams("float32"),
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 128,
  };
  const gradients = new Map<string, number[]>();
  const { rule } = lomo({ weightDecay: 0 });
  const watched: Optimizer = {
    name: "watched",
    rule: (parameter) => {
      const made = rule(parameter);
      const update: typeof made.update = (weight, gradient, ...rest) => {
        gradients.set(parameter.name, toArray(gradient));
        made.update(weight, gradient, ...rest);
      };
      return { layout: made.layout, update };
    },
  };
  const result = trainStep(network, new OptimizerStates(watched, model), batches, {
    method: METHODS[method],
    step: 1,
    learningRate: 1,
    seed: 1,
    ...clipping,
  });
  const names = placedParameters(model.architecture).map(({ spec, prefix }) => prefix + spec.name);
  assert.equal(gradients.size, names.length);
  freeModel(model);
  return { values: names.flatMap((name) => gradients.get(name) as number[]), result };
}

const norm = (values: number[]): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
const apart = (a: number[], b: number[]): number => norm(a.map((value, i) => value - b[i])) / norm(b);

for (const method of ["reversible", "checkpoint", "checkpoint-offload", "store"] as const) {
  for (const [name, clipping] of KINDS) {
    test(`${method}, ${name}: the same micro-batch twice is it once, to the last bit`, () => {
      const batch = document(41, 30, 31);
      const [once, twice] = [[batch], [batch, batch]].map((batches) => step(batches, method, clipping));
      assert.equal(twice.result.loss, once.result.loss);
      assert.equal(twice.result.gradNorm, once.result.gradNorm);
      assert.deepEqual(twice.values, once.values);
      assert.equal(twice.result.gradientBytes, once.result.gradientBytes);
    });
  }
}

test("every trained token weighs the same, however unequal micro-batches are", () => {
  const [few, many] = [document(23, 2, 31), document(60, 50, 17)];
  const [a, b, both] = [[few], [many], [few, many]].map((batches) => step(batches, "store"));
  const weighted = (x: number, y: number): number => (2 * x + 50 * y) / 52;
  assert.ok(Math.abs(both.result.loss - weighted(a.result.loss, b.result.loss)) < 1e-6 * both.result.loss);
  const expected = a.values.map((value, i) => weighted(value, b.values[i]));
  assert.ok(apart(both.values, expected) < 1e-6, `${apart(both.values, expected)}`);
  const ofMeans = a.values.map((value, i) => (value + b.values[i]) / 2);
  assert.ok(apart(ofMeans, expected) > 0.1, "a mean of the micro-batches' means is something else");
});

for (const method of ["reversible", "store"] as const) {
  for (const [name, clipping] of KINDS) {
    test(`${method}, ${name}: one large batch and unequal micro-batches of the same documents`, () => {
      const documents = [document(23, 2, 31), document(60, 50, 17), document(11, 10, 5)];
      const [large, small] = [[packed(documents)], documents].map((batches) => step(batches, method, clipping));
      // Where streams are on a grid, a sum in another order may fall to its next point, 2^-16 away.
      const bound = method === "reversible" ? 1e-3 : 2e-6;
      assert.ok(Math.abs(small.result.loss - large.result.loss) < bound * large.result.loss);
      assert.ok(Math.abs(small.result.gradNorm - large.result.gradNorm) < bound * large.result.gradNorm);
      assert.ok(apart(small.values, large.values) < bound, `${apart(small.values, large.values)}`);
      if (clipping.maxGradNorm)
        assert.ok(Math.abs(norm(small.values) / clipping.maxGradNorm - 1) < 1e-4, `${norm(small.values)}`);
    });
  }
}
