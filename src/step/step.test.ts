// What the whole project stands on: gradients of rebuilt activations equal those of stored ones bit for bit on the real
// model code; activation memory does not grow with depth; nothing survives a step.
import assert from "node:assert/strict";
import { test } from "node:test";

import { BadValuesError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { freeModel, randomModel, weightBytes, type Model } from "../model/model.js";
import { adamw } from "../optim/adamw.js";
import type { Optimizer } from "../optim/optimizer.js";
import { additive } from "../reversible/couplings/additive.js";
import { bdia } from "../reversible/couplings/bdia.js";
import type { Coupling } from "../reversible/coupling.js";
import { METHODS } from "../reversible/methods/registry.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { revffn } from "../reversible/couplings/revffn.js";
import { withAdapters } from "../model/adapters.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams, gridStreams, type StreamFormat } from "../reversible/streams.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { setThreads } from "../torch/device.js";
import { type DType, dtype, toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import type { Division, Network } from "../network/network.js";
import { OptimizerStates } from "./optimizer-states.js";
import { trainStep, type StepResult } from "./step.js";
import { evaluateLoss } from "../network/evaluate.js";
import { randomBatch } from "./testing-batch.js";
import { deviceStore } from "../store/device.js";

setThreads(1);

const CONFIG = TINY_QWEN2_MOE;

const BATCHES = [randomBatch([7, 19, 3], 1), randomBatch([30], 2)];

/** An optimiser that changes nothing and notes what it was given. */
function recorder(): { optimizer: Optimizer; gradients: Map<string, number[]>; order: number } {
  const notes = { gradients: new Map<string, number[]>(), order: 0, optimizer: {} as Optimizer };
  notes.optimizer = {
    name: "recorder",
    rule: () => ({
      layout: {},
      update: (_weight, gradient) => {
        assert.equal(dtype(gradient), "float32");
        notes.gradients.set(String(notes.order++), toArray(gradient));
      },
    }),
  };
  return notes;
}

interface Case {
  coupling: Coupling;
  method: keyof typeof METHODS;
  format?: StreamFormat;
  computeDtype?: DType;
  config?: Record<string, unknown>;
  division?: Division;
  tileTokens?: number;
}

function gradientsOf({
  coupling,
  method,
  format = gridStreams("int32", 16),
  computeDtype = "float32",
  config = {},
  division,
  tileTokens,
}: Case): {
  gradients: Map<string, number[]>;
  result: StepResult;
} {
  const model = makeModel(config, "float32", coupling.name.startsWith("revffn"));
  const { optimizer, gradients } = recorder();
  const network: Network = {
    model,
    coupling,
    format,
    division,
    computeDtype,
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 16,
    tileTokens,
  };
  const states = new OptimizerStates(optimizer, model);
  const result = trainStep(network, states, BATCHES, {
    method: METHODS[method],
    step: 1,
    learningRate: 0,
    maxBlockGradNorm: 0,
    seed: 1,
  });
  freeModel(model);
  return { gradients, result };
}

function makeModel(config: Record<string, unknown> = {}, type: DType = "float32", adapters = false): Model {
  const plain = readArchitecture({ ...CONFIG, ...config }, "test");
  const architecture = adapters ? withAdapters(plain, { sharing: "stream", init: "identity" }) : plain;
  return randomModel(architecture, 3, type, TEST_DEVICE);
}

const INVERSE = {
  iterations: 4,
  tolerance: 0,
  start: "output",
  damping: 1,
  anderson: false,
  storedHint: true,
} as const;
const COUPLINGS = [
  additive,
  ...[-1, 0.5, -0.5, 0.25, -0.25, 0.125, -0.0625, -1 / 256].map(momentum),
  bdia(0.25),
  bdia(0.5),
  revffn(INVERSE),
];

for (const computeDtype of ["float32", "bfloat16"] as const) {
  for (const coupling of COUPLINGS) {
    test(`${coupling.name}, ${computeDtype}: gradients of rebuilt, recomputed and stored activations have the same bits`, () => {
      const stored = gradientsOf({ coupling, method: "store", computeDtype });
      const rebuilt = gradientsOf({ coupling, method: "reversible", computeDtype });
      const recomputed = gradientsOf({ coupling, method: "checkpoint", computeDtype });
      assert.equal(rebuilt.result.reconstructionError, 0);
      assert.ok(stored.result.gradNorm > 0 && stored.result.loss > 1);
      assert.equal(rebuilt.result.loss, stored.result.loss);
      assert.deepEqual(rebuilt.gradients, stored.gradients);
      assert.deepEqual(recomputed.gradients, stored.gradients);
    });
  }
}

for (const division of [
  { blocksPerStep: 2, ordinaryFirst: 0, ordinaryLast: 0 },
  { blocksPerStep: 1, ordinaryFirst: 2, ordinaryLast: 0 },
  { blocksPerStep: 1, ordinaryFirst: 0, ordinaryLast: 1 },
  { blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 },
  { blocksPerStep: 4, ordinaryFirst: 0, ordinaryLast: 0 },
]) {
  for (const coupling of [momentum(0.25), momentum(-1), bdia(0.5)]) {
    test(`${coupling.name} ${JSON.stringify(division)}: the same bits, however blocks are shared out`, () => {
      const stored = gradientsOf({ coupling, method: "store", division });
      const rebuilt = gradientsOf({ coupling, method: "reversible", division });
      assert.equal(rebuilt.result.reconstructionError, division.ordinaryFirst > 0 ? null : 0);
      assert.deepEqual(rebuilt.gradients, stored.gradients);
      assert.deepEqual(gradientsOf({ coupling, method: "checkpoint", division }).gradients, stored.gradients);
      assert.notEqual(
        stored.result.loss,
        gradientsOf({ coupling, method: "store" }).result.loss,
        "the network is another one",
      );
      const units = Math.ceil((5 - division.ordinaryFirst - division.ordinaryLast) / division.blocksPerStep);
      const plain = coupling.drawsSigns ? 1 : 0;
      assert.equal(rebuilt.result.bitBytes, ((units - plain) * 59 * 32 * coupling.storedBits) / 8);
    });
  }
}

for (const [coupling, division] of [
  [additive, undefined],
  [momentum(0.25), undefined],
  [momentum(0.25), { blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 }],
  [bdia(0.5), undefined],
  [revffn(INVERSE), undefined],
] as const) {
  for (const computeDtype of ["float32", "bfloat16"] as const) {
    test(`${coupling.name}, ${computeDtype}, ${division ? "units of two" : "each block"}: tiles of tokens have the same bits too`, () => {
      const of = (method: keyof typeof METHODS, tileTokens = 8): ReturnType<typeof gradientsOf> =>
        gradientsOf({ coupling, method, computeDtype, division, tileTokens });
      const stored = of("store");
      for (const method of ["reversible", "checkpoint", "checkpoint-offload"] as const)
        assert.deepEqual(of(method).gradients, stored.gradients, method);
      const whole = of("store", 0);
      assert.deepEqual(stored.result.expertCounts, whole.result.expertCounts);
      if (computeDtype === "float32")
        assert.ok(distance(stored.gradients, whole.gradients) < 1e-4, `${distance(stored.gradients, whole.gradients)}`);
    });
  }
}

/** Relative, over all gradients. */
function distance(actual: Map<string, number[]>, expected: Map<string, number[]>): number {
  const square = (rows: Iterable<number[]>): number => [...rows].flat().reduce((sum, value) => sum + value * value, 0);
  const apart = [...expected].map(([name, row]) => row.map((value, i) => value - (actual.get(name) as number[])[i]));
  return Math.sqrt(square(apart) / square(expected.values()));
}

test("additive with ordinary ends, and one unit of all blocks, which is the ordinary network", () => {
  const ends = { blocksPerStep: 1, ordinaryFirst: 1, ordinaryLast: 2 };
  const stored = gradientsOf({ coupling: additive, method: "store", division: ends });
  assert.deepEqual(
    gradientsOf({ coupling: additive, method: "reversible", division: ends }).gradients,
    stored.gradients,
  );
  assert.deepEqual(
    gradientsOf({ coupling: additive, method: "checkpoint", division: ends }).gradients,
    stored.gradients,
  );
  const whole = { blocksPerStep: 5, ordinaryFirst: 0, ordinaryLast: 0 };
  const flushed = gradientsOf({ coupling: momentum(0.25), method: "reversible", division: whole }).result.loss;
  const plain = gradientsOf({ coupling: ordinary, method: "store", format: floatStreams("float32") }).result.loss;
  assert.ok(Math.abs(flushed - plain) < 1e-3, `${flushed} ${plain}`);
});

test("int64 streams are exact too, and tied embeddings share one gradient", () => {
  const config = { tie_word_embeddings: true, norm_topk_prob: true, decoder_sparse_step: 2 };
  const format = gridStreams("int64", 32);
  const stored = gradientsOf({ coupling: momentum(0.25), method: "store", format, config });
  const rebuilt = gradientsOf({ coupling: momentum(0.25), method: "reversible", format, config });
  assert.equal(rebuilt.result.reconstructionError, 0);
  assert.deepEqual(rebuilt.gradients, stored.gradients);
});

test("revffn: iteration alone comes back nearly, more of it nearer, and the figures of every block say so", () => {
  const run = (iterations: number): StepResult =>
    gradientsOf({
      coupling: revffn({ ...INVERSE, iterations, storedHint: false }),
      method: "reversible",
      config: { initializer_range: 0.08 },
    }).result;
  const [few, many] = [run(1), run(40)];
  assert.ok(
    (few.reconstructionError as number) > (many.reconstructionError as number),
    `${few.reconstructionError} ${many.reconstructionError}`,
  );
  assert.equal(few.inverse?.iterations, 1);
  assert.ok(
    (many.inverse?.iterations as number) > 1 && (many.inverse?.residual as number) < (few.inverse?.residual as number),
  );
  const stored = gradientsOf({ coupling: revffn({ ...INVERSE, storedHint: true }), method: "reversible" }).result;
  assert.ok(stored.bitBytes > 0 && stored.reconstructionError === 0);
});

test("float streams rebuild their inputs only nearly", () => {
  const { result } = gradientsOf({ coupling: momentum(0.5), method: "reversible", format: floatStreams("float32") });
  assert.ok(result.reconstructionError !== null && result.reconstructionError > 0 && result.reconstructionError < 1e-3);
});

/** Peak of a step above what is alive before it, and what grows with depth. */
function peakAt(
  layers: number,
  coupling: Coupling,
  method: keyof typeof METHODS,
  blocksPerStep = 1,
): { peak: number; bits: number; gradient: number; largest: number } {
  const model = makeModel({
    num_hidden_layers: layers,
    mlp_only_layers: [],
    hidden_size: 128,
    moe_intermediate_size: 32,
  });
  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
  const network: Network = {
    model,
    coupling,
    format: gridStreams("int32", 16),
    division: { blocksPerStep, ordinaryFirst: 0, ordinaryLast: 0 },
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 64,
  };
  const before = ledger(TEST_DEVICE);
  resetPeak(TEST_DEVICE);
  const result = trainStep(network, states, [randomBatch([128, 64], 1), randomBatch([192], 2)], {
    method: METHODS[method],
    step: 1,
    learningRate: 1e-3,
    maxBlockGradNorm: 1,
    seed: 1,
  });
  const after = ledger(TEST_DEVICE);
  assert.deepEqual(
    [after.tensors, after.blocks, after.liveBytes],
    [before.tensors, before.blocks, before.liveBytes],
    "nothing survives a step",
  );
  const largest = 2 * weightBytes({ ...model, outer: {}, blocks: [model.blocks[0]] });
  states.free();
  freeModel(model);
  return { peak: after.peakBytes - before.liveBytes, bits: result.bitBytes, gradient: result.gradientBytes, largest };
}

for (const coupling of [additive, momentum(-1)]) {
  test(`${coupling.name}: the activation peak is the same at 4 and at 24 blocks`, () => {
    const [shallow, deep] = [4, 24].map((layers) => peakAt(layers, coupling, "reversible"));
    assert.equal(deep.bits, 0);
    // What of a block's routing is kept takes whole units of 512 bytes on a GPU.
    assert.ok(
      Math.abs(deep.peak / shallow.peak - 1) < (TEST_DEVICE === "cpu" ? 0.01 : 0.015),
      `${shallow.peak} at 4 blocks, ${deep.peak} at 24`,
    );
  });
}

test("momentum(0.25): two bits per element and block are all that grows", () => {
  const [shallow, deep] = [4, 24].map((layers) => peakAt(layers, momentum(0.25), "reversible"));
  const elements = 384 * 128;
  assert.equal(shallow.bits, (4 * elements * 2) / 8);
  assert.equal(deep.bits, (24 * elements * 2) / 8);
  const grown = deep.peak - shallow.peak;
  const bits = deep.bits - shallow.bits;
  const routing = 20 * 384 * 3;
  assert.ok(
    Math.abs(grown - bits - routing) / shallow.peak < 0.01,
    `grew by ${grown}: ${bits} of bits, ${routing} of routing`,
  );
});

const larger = TEST_DEVICE !== "cpu" && "tiles are larger there";
test("the peak of a long document grows in proportion to its length, and less with tiles", { skip: larger }, () => {
  const peakOf = (length: number, tileTokens: number): number => {
    const model = makeModel({ num_hidden_layers: 1, mlp_only_layers: [] });
    const states = new OptimizerStates(recorder().optimizer, model);
    const format = gridStreams("int32", 16);
    const network: Network = {
      model,
      coupling: momentum(-1),
      format,
      computeDtype: "float32",
      device: TEST_DEVICE,
      store: deviceStore(TEST_DEVICE),
      lossTileTokens: 64,
      tileTokens,
    };
    const before = ledger(TEST_DEVICE).liveBytes;
    resetPeak(TEST_DEVICE);
    trainStep(network, states, [randomBatch([length], 1)], {
      method: METHODS.reversible,
      step: 1,
      learningRate: 0,
      maxBlockGradNorm: 0,
      seed: 1,
    });
    const peak = ledger(TEST_DEVICE).peakBytes - before;
    freeModel(model);
    return peak;
  };
  const [short, middle, long] = [2048, 4096, 8192].map((length) => peakOf(length, 256));
  assert.ok(
    long - middle < 2.1 * (middle - short),
    `${short}, ${middle}, ${long}: the second doubling adds twice the first`,
  );
  assert.ok(long < (8192 * 8192 * 4) / 4, `${long} bytes are far from one matrix of scores`);
  const slope = (long - middle) / 4096;
  const untiled = (peakOf(8192, 0) - peakOf(4096, 0)) / 4096;
  assert.ok(slope < 0.75 * untiled, `${slope} bytes per token in tiles, ${untiled} without`);
});

test("gradient bytes alive never exceed one block's", () => {
  const { gradient, largest } = peakAt(6, momentum(0.25), "reversible");
  const oneBlock = largest / 2;
  assert.equal(gradient, oneBlock);
});

test("a unit of several blocks holds the gradient of each and the sums in front of them, and one block's graph", () => {
  const [single, ofThree, ofSix] = [1, 3, 6].map((size) => peakAt(6, momentum(-1), "reversible", size));
  const sum = 192 * 128 * 4;
  for (const [unit, size] of [
    [ofThree, 3],
    [ofSix, 6],
  ] as const) {
    assert.equal(unit.gradient, size * single.gradient);
    const more = unit.peak - single.peak - (unit.gradient - single.gradient);
    // A few numbers of their own, such as norms, are alive at one peak and not at the other.
    assert.ok(more <= (size + 1) * sum + 64, `${more / sum} sums with ${size} blocks`);
  }
});

test("checkpoint grows by the streams of a block, store by its graph", () => {
  const [shallow, deep] = [4, 24].map((layers) => peakAt(layers, ordinary, "checkpoint"));
  const streams = 20 * 384 * 128 * 4;
  assert.ok(
    Math.abs(deep.peak - shallow.peak - streams) / streams < 0.05,
    `${deep.peak - shallow.peak} against ${streams}`,
  );
  const stored = [4, 24].map((layers) => peakAt(layers, ordinary, "store").peak);
  assert.ok(stored[1] - stored[0] > 5 * streams);
});

test("training lowers the loss of a repeated batch, with every method and coupling", () => {
  for (const [coupling, method] of [
    [momentum(0.25), "reversible"],
    [additive, "reversible"],
    [ordinary, "checkpoint"],
    [ordinary, "store"],
  ] as const) {
    const model = makeModel();
    const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
    const network: Network = {
      model,
      coupling,
      format: coupling === ordinary ? floatStreams("float32") : gridStreams("int32", 16),
      computeDtype: "float32",
      device: TEST_DEVICE,
      store: deviceStore(TEST_DEVICE),
      lossTileTokens: 16,
    };
    const before = evaluateLoss(network, BATCHES);
    const losses = Array.from(
      { length: 12 },
      (_, i) =>
        trainStep(network, states, BATCHES, {
          method: METHODS[method],
          step: i + 1,
          learningRate: 5e-3,
          maxBlockGradNorm: 1,
          seed: 1,
        }).loss,
    );
    assert.ok(Math.abs(before - losses[0]) < 1e-5, `${before} evaluated, ${losses[0]} trained`);
    assert.ok(losses[11] < 0.6 * losses[0], `${coupling.name} ${method}: ${losses[0]} -> ${losses[11]}`);
    states.free();
    freeModel(model);
  }
});

test("streams that are watched are looked at before the first update and behind the last one; what is seen ends the step", () => {
  const model = makeModel();
  const { optimizer, gradients } = recorder();
  const states = new OptimizerStates(optimizer, model);
  const before = ledger(TEST_DEVICE).liveBytes;
  const events: (number | "closed")[] = [];
  const step = (look: () => void, maxGradNorm = 0): StepResult => {
    events.length = 0;
    gradients.clear();
    const watch = () => ({ look, close: () => void events.push("closed") });
    const network: Network = {
      model,
      coupling: momentum(-1 / 16),
      format: { ...gridStreams("int32", 16), watch },
      computeDtype: "float32",
      device: TEST_DEVICE,
      store: deviceStore(TEST_DEVICE),
      lossTileTokens: 16,
    };
    return trainStep(network, states, BATCHES, {
      ...{ method: METHODS.reversible, step: 1, learningRate: 0, maxBlockGradNorm: 0, seed: 1, maxGradNorm },
    });
  };
  const note = (): void => void events.push(gradients.size);
  step(note);
  assert.deepEqual(events, [0, gradients.size, "closed"]);
  assert.ok(gradients.size > 0);
  step(note, 1);
  assert.deepEqual(events, [0, 0, gradients.size, "closed"]);
  const fail = (): void => {
    throw new BadValuesError("a block of the network: left the grid.", "");
  };
  assert.throws(() => step(fail), /left the grid/);
  assert.deepEqual([events, gradients.size], [["closed"], 0]);
  assert.equal(ledger(TEST_DEVICE).liveBytes, before);
  freeModel(model);
});
