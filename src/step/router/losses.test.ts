// Router losses, jitter, freezing and replay in whole steps: the same bits whatever a method keeps, the same value however
// a step is cut into micro-batches, and frozen weights that keep theirs.
import assert from "node:assert/strict";
import { test } from "node:test";

import { makeContext } from "../../model/context.js";
import { TINY_QWEN2_MOE } from "../../families/testing-config.js";
import { layerParameters } from "../../model/architecture.js";
import { freeModel, type Model, placedParameters, randomModel } from "../../model/model.js";
import { freshRouting, RecordedRouting } from "../../model/routing.js";
import { readArchitecture } from "../../families/registry.js";
import { OpenWeights } from "../../model/weights.js";
import { adamw } from "../../optim/adamw.js";
import type { Optimizer } from "../../optim/optimizer.js";
import { additive } from "../../reversible/couplings/additive.js";
import { METHODS } from "../../reversible/methods/registry.js";
import { momentum } from "../../reversible/couplings/momentum.js";
import { ordinary } from "../../reversible/couplings/ordinary.js";
import { floatStreams, gridStreams } from "../../reversible/streams.js";
import type { Batch } from "../../data/batches.js";
import { setThreads } from "../../torch/device.js";
import { ledger } from "../../torch/memory.js";
import { addScalar_, copy_, equal, mul, narrow, normal_ } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { full, shape, toArray, type Tensor, zeros } from "../../torch/tensor.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { evaluateLoss } from "../../network/evaluate.js";
import { routerJitter } from "./jitter.js";
import { type Network, routerNames } from "../../network/network.js";
import { OptimizerStates } from "../optimizer-states.js";
import { type StepOptions, type StepResult, trainStep } from "../step.js";
import { deviceStore } from "../../store/device.js";

setThreads(1);

const CONFIG = { ...TINY_QWEN2_MOE, vocab_size: 61, num_hidden_layers: 4 };

/** Documents of tokens that follow from a seed; every token but a document's last is trained. */
function documents(segments: number[], seed: number): Batch {
  const length = segments.reduce((sum, size) => sum + size, 0);
  const tokens = Int32Array.from(
    { length },
    (_, i) => (Math.imul(i + 17 * seed, 2654435761) >>> 9) % CONFIG.vocab_size,
  );
  const positions = Int32Array.from(segments.flatMap((size) => [...Array(size).keys()]));
  const labels = positions.map((_, i) => (positions[i + 1] ? tokens[i + 1] : -100));
  return { tokens, labels, positions, segments, trainedTokens: labels.filter((label) => label >= 0).length };
}

const BATCHES = [documents([7, 19, 3], 1), documents([30], 2)];
const ALL: StepOptions["router"] = { auxCoef: 0.1, auxType: "pooled", zCoef: 0.05, jitterNoise: 0.1 };
const OFF: StepOptions["router"] = { auxCoef: 0, auxType: "pooled", zCoef: 0, jitterNoise: 0 };

const makeModel = (config: Record<string, unknown> = {}): Model =>
  randomModel(readArchitecture({ ...CONFIG, ...config }, "test"), 3, "float32", TEST_DEVICE);

const networkOf = (model: Model, changes: Partial<Network> = {}): Network => ({
  model,
  coupling: momentum(0.25),
  format: gridStreams("int32", 16),
  computeDtype: "float32",
  device: TEST_DEVICE,
  store: deviceStore(TEST_DEVICE),
  lossTileTokens: 16,
  ...changes,
});

interface Ran {
  result: StepResult;
  /** By the order of updates. */
  gradients: number[][];
}

/** One step with an optimiser that changes nothing; asserts that nothing is alive afterwards that was not before. */
function stepOf(network: Network, method: keyof typeof METHODS, router: StepOptions["router"], batches = BATCHES): Ran {
  const gradients: number[][] = [];
  const optimizer: Optimizer = {
    name: "recorder",
    rule: () => ({ layout: {}, update: (_weight, gradient) => void gradients.push(toArray(gradient)) }),
  };
  const states = new OptimizerStates(optimizer, network.model, { trains: network.trains });
  const before = ledger(TEST_DEVICE);
  const options = { method: METHODS[method], step: 1, learningRate: 0, maxBlockGradNorm: 0, seed: 1, router };
  const result = trainStep(network, states, batches, options);
  const after = ledger(TEST_DEVICE);
  assert.deepEqual([after.tensors, after.liveBytes], [before.tensors, before.liveBytes], "nothing survives a step");
  return { result, gradients };
}

const distance = (a: number[][], b: number[][]): number => {
  const [x, y] = [a.flat(), b.flat()];
  const norm = (values: number[]): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(x.map((value, i) => value - y[i])) / norm(y);
};

for (const coupling of [additive, momentum(0.25), momentum(-1)]) {
  for (const computeDtype of ["float32", "bfloat16"] as const) {
    for (const auxType of ["pooled", "layer"] as const) {
      test(`${coupling.name}, ${computeDtype}, ${auxType}: with router losses and jitter, every method gives the same bits`, () => {
        const model = makeModel();
        const network = networkOf(model, { coupling, computeDtype });
        const router = { ...ALL, auxType };
        const stored = stepOf(network, "store", router);
        for (const tileTokens of [0, 8]) {
          const tiled = { ...network, tileTokens };
          const { result: expected, gradients: same } = tileTokens === 0 ? stored : stepOf(tiled, "store", router);
          for (const method of ["reversible", "checkpoint"] as const) {
            const { result, gradients } = stepOf(tiled, method, router);
            assert.deepEqual(gradients, same, `${method}, tiles of ${tileTokens}`);
            const { loss, auxLoss, zLoss } = expected;
            assert.deepEqual([result.loss, result.auxLoss, result.zLoss], [loss, auxLoss, zLoss]);
          }
        }
        if (coupling.takesUnits) {
          const division = { blocksPerStep: 3, ordinaryFirst: 0, ordinaryLast: 0 };
          const [kept, rebuilt] = (["store", "reversible"] as const).map((method) =>
            stepOf({ ...network, division }, method, router),
          );
          assert.deepEqual(rebuilt.gradients, kept.gradients, "units of three blocks");
          assert.deepEqual([rebuilt.result.auxLoss, rebuilt.result.zLoss], [kept.result.auxLoss, kept.result.zLoss]);
        }
        for (const changed of [{ auxCoef: 0 }, { zCoef: 0 }, { jitterNoise: 0 }]) {
          const other = stepOf(network, "reversible", { ...router, ...changed });
          assert.ok(distance(other.gradients, stored.gradients) > 1e-4, `${Object.keys(changed)} has no effect`);
        }
        freeModel(model);
      });
    }
  }
}

test("all coefficients at 0 leave every bit as it was, and both losses null", () => {
  const model = makeModel();
  const network = networkOf(model);
  const without = stepOf(network, "reversible", undefined);
  const { result, gradients } = stepOf(network, "reversible", OFF);
  assert.deepEqual(gradients, without.gradients);
  assert.deepEqual([result.loss, result.auxLoss, result.zLoss], [without.result.loss, null, null]);
  freeModel(model);
});

test("no logits are kept for the backward pass, and none survive a step that fails", () => {
  const model = makeModel();
  const network = networkOf(model);
  for (const method of ["reversible", "checkpoint"] as const) {
    assert.equal(stepOf(network, method, ALL).result.keptBytes, stepOf(network, method, undefined).result.keptBytes);
  }
  copy_(model.outer["model.norm.weight"], full([], Number.NaN, "float32"));
  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
  for (const method of ["reversible", "checkpoint", "store"] as const) {
    const before = ledger(TEST_DEVICE);
    const options = { method: METHODS[method], step: 1, learningRate: 0, maxBlockGradNorm: 0, seed: 1, router: ALL };
    assert.throws(() => trainStep(network, states, BATCHES, options), /the loss is not a finite number/);
    const after = ledger(TEST_DEVICE);
    assert.deepEqual([after.tensors, after.liveBytes], [before.tensors, before.liveBytes], method);
  }
  states.free();
  freeModel(model);
});

test("even routing has a loss of k (pooled) and 1 (layer); logits of 0 have a z-loss of ln(E)^2", () => {
  const model = makeModel();
  for (const block of model.blocks)
    if (block["mlp.gate.weight"]) copy_(block["mlp.gate.weight"], full([], 0, "float32"));
  for (const [auxType, expected] of [
    ["pooled", 3],
    ["layer", 1],
  ] as const) {
    const { auxLoss, zLoss } = stepOf(networkOf(model), "reversible", { ...ALL, auxType, jitterNoise: 0 }).result;
    assert.ok(Math.abs((auxLoss as number) - expected) < 1e-6, `${auxType} ${auxLoss}`);
    assert.ok(Math.abs((zLoss as number) - Math.log(8) ** 2) < 1e-5, `z ${zLoss}`);
  }
  freeModel(model);
});

test("micro-batches make one whole: two have the losses and the gradient of one large batch", () => {
  const model = makeModel();
  const network = networkOf(model, { coupling: ordinary, format: floatStreams("float64"), computeDtype: "float64" });
  const one = documents([7, 19, 3, 30], 1);
  const slice = (from: number, to: number, segments: number[]): Batch => {
    const labels = one.labels.slice(from, to);
    const trainedTokens = labels.filter((label) => label >= 0).length;
    return {
      labels,
      segments,
      trainedTokens,
      tokens: one.tokens.slice(from, to),
      positions: one.positions.slice(from, to),
    };
  };
  const parts = [slice(0, 29, [7, 19, 3]), slice(29, 59, [30])];
  for (const auxType of ["pooled", "layer"] as const) {
    const router = { ...ALL, auxType, jitterNoise: 0 };
    const whole = stepOf(network, "checkpoint", router, [one]);
    const split = stepOf(network, "checkpoint", router, parts);
    for (const key of ["loss", "auxLoss", "zLoss"] as const) {
      const [a, b] = [whole.result[key] as number, split.result[key] as number];
      assert.ok(Math.abs(a - b) < 1e-13 * a, `${auxType} ${key}: ${a} whole, ${b} in parts`);
    }
    // Gradients are kept in float32.
    assert.ok(distance(split.gradients, whole.gradients) < 1e-6);
  }
  freeModel(model);
});

test("tiles of tokens change neither the losses nor the noise: gradients differ by rounding alone", () => {
  const model = makeModel();
  const network = networkOf(model, { coupling: ordinary, format: floatStreams("float64"), computeDtype: "float64" });
  const whole = stepOf(network, "store", ALL);
  for (const method of ["store", "checkpoint"] as const) {
    const tiled = stepOf({ ...network, tileTokens: 8 }, method, ALL);
    assert.ok(distance(tiled.gradients, whole.gradients) < 1e-6, `${distance(tiled.gradients, whole.gradients)}`);
    for (const key of ["loss", "auxLoss", "zLoss"] as const) {
      const [a, b] = [whole.result[key] as number, tiled.result[key] as number];
      assert.ok(Math.abs(a - b) < 1e-13 * a, `${key}: ${a} whole, ${b} in tiles`);
    }
  }
  freeModel(model);
});

test("jitter: the layer with experts sees norm(x) times noise from 1 -+ epsilon, the same each time and another elsewhere", () => {
  const architecture = readArchitecture(
    { ...CONFIG, model_type: "mixtral", num_local_experts: 8, num_experts: undefined },
    "test",
  );
  const model = randomModel(architecture, 3, "float32", TEST_DEVICE);
  const layer = architecture.layers[1];
  const weights = new OpenWeights((name) => model.blocks[1][name], layerParameters(layer), "float32");
  scope(() => {
    setSeed(5);
    const x_TD = normal_(zeros([9, 32], "float32", TEST_DEVICE), 0, 1);
    const seen: Tensor[] = [];
    const contextOf = (epsilon: number, step: number) => {
      const made = makeContext(architecture, [...Array(9).keys()], [9], {
        computeDtype: "float32",
        device: TEST_DEVICE,
        routing: freshRouting,
      });
      const jitter = routerJitter(epsilon, 1, step, 0);
      const noise = (h_TD: Tensor, layer: number): Tensor => {
        seen.push(h_TD);
        return jitter(h_TD, layer);
      };
      return epsilon === 0 ? made : { ...made, jitter: noise };
    };
    const branch = (epsilon: number, step = 1): number[] =>
      toArray(layer.feedForward.evaluate(weights, x_TD, contextOf(epsilon, step)));
    const noisy = branch(0.25);
    assert.deepEqual(branch(0.25), noisy);
    assert.notDeepEqual(branch(0.25, 2), noisy);
    assert.notDeepEqual(branch(0), noisy);

    const ones_TD = full(shape(x_TD), 1, "float32", TEST_DEVICE);
    const noise_TD = routerJitter(0.25, 1, 1, 0)(ones_TD, 1);
    const values = toArray(noise_TD);
    assert.ok(
      Math.min(...values) < 0.77 &&
        Math.max(...values) > 1.23 &&
        values.every((value) => value >= 0.75 && value <= 1.25),
    );
    assert.notDeepEqual(toArray(routerJitter(0.25, 1, 1, 0)(ones_TD, 2)), values, "another layer");
    assert.notDeepEqual(toArray(routerJitter(0.25, 1, 1, 1)(ones_TD, 1)), values, "another micro-batch");
    // The same branch, with the noise on what the norm gives.
    const byHand = { ...contextOf(0, 1), jitter: () => mul(seen[0], noise_TD) };
    assert.deepEqual(toArray(layer.feedForward.evaluate(weights, x_TD, byHand)), noisy);
  });
  weights.close();
  freeModel(model);
});

test("evaluation has no jitter", () => {
  const model = makeModel();
  const network = networkOf(model);
  const evaluated = evaluateLoss(network, BATCHES);
  assert.ok(Math.abs(stepOf(network, "reversible", { ...OFF, jitterNoise: 0 }).result.loss - evaluated) < 1e-6);
  assert.ok(Math.abs(stepOf(network, "reversible", { ...OFF, jitterNoise: 0.3 }).result.loss - evaluated) > 1e-4);
  freeModel(model);
});

/** Router rows in pairs that differ by `gap`: every choice between a pair is a near tie, or with 0 an exact one. */
function pairRows(model: Model, gap: number): void {
  scope(() => {
    for (const block of model.blocks) {
      const router_ED = block["mlp.gate.weight"];
      if (router_ED === undefined) continue;
      for (let e = 0; e < 8; e += 2) addScalar_(copy_(narrow(router_ED, 0, e + 1, 1), narrow(router_ED, 0, e, 1)), gap);
    }
  });
}

test("exact ties: gradients of rebuilt, recomputed and stored activations have the same bits", () => {
  const model = makeModel();
  pairRows(model, 0);
  const stored = stepOf(networkOf(model), "store", ALL);
  for (const method of ["reversible", "checkpoint"] as const) {
    assert.deepEqual(stepOf(networkOf(model), method, ALL).gradients, stored.gradients);
  }
  freeModel(model);
});

test("near ties and inexact streams: without replay choices flip and the gradient is another; with it they cannot", () => {
  const model = makeModel();
  pairRows(model, 2e-7);
  const network = networkOf(model, { coupling: momentum(0.5), format: floatStreams("float32") });
  const stored = stepOf(network, "store", ALL);
  const replayed = stepOf(network, "reversible", ALL);
  const { choose } = RecordedRouting.prototype;
  let flips = 0;
  RecordedRouting.prototype.choose = function (layer, scores_TE, expertsPerToken) {
    const recorded_TA = choose.call(this, layer, scores_TE, expertsPerToken);
    const fresh_TA = freshRouting.choose(layer, scores_TE, expertsPerToken);
    if (!equal(fresh_TA, recorded_TA)) flips++;
    return fresh_TA;
  };
  try {
    const chosenAnew = stepOf(network, "reversible", ALL);
    assert.ok(flips > 0, "no choice flipped");
    const [kept, lost] = [replayed, chosenAnew].map(({ gradients }) => distance(gradients, stored.gradients));
    assert.ok(kept < 1e-3 && lost > 20 * kept, `relative error ${kept} with replay, ${lost} without`);
  } finally {
    RecordedRouting.prototype.choose = choose;
  }
  freeModel(model);
});

test("a frozen router has no gradient, no state and the same bits after steps; all else is trained as before", () => {
  const model = makeModel();
  const frozen = routerNames(model);
  assert.deepEqual([...frozen], ["mlp.gate.weight"]);
  const trains = (_layer: number, name: string): boolean => !frozen.has(name);
  const network = networkOf(model, { trains });
  const free = stepOf(networkOf(model), "reversible", OFF);
  const held = stepOf(network, "reversible", OFF);
  assert.equal(free.gradients.length - held.gradients.length, 3, "one router in each sparse layer");
  const all = new Set(free.gradients.map(String));
  assert.ok(
    held.gradients.every((gradient) => all.has(String(gradient))),
    "the others' gradients have the same bits",
  );

  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 }), model, {
    trains,
  });
  assert.ok(states.tensors().every(({ name }) => !name.endsWith("mlp.gate.weight")));
  assert.equal(states.tensors().length, 2 * (placedParameters(model.architecture).length - 3));
  const weights = (): string[] =>
    model.blocks.flatMap((block) => Object.entries(block).map(([name, t]) => `${name} ${toArray(t)}`));
  const before = weights();
  for (let step = 1; step <= 3; step++) {
    trainStep(network, states, BATCHES, {
      method: METHODS.reversible,
      step,
      learningRate: 1e-2,
      maxBlockGradNorm: 1,
      seed: 1,
    });
  }
  for (const [i, after] of weights().entries()) assert.equal(after === before[i], after.startsWith("mlp.gate.weight"));
  states.free();
  freeModel(model);
});
