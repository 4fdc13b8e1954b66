// The kernels of a layer with a gated delta rule in float32 and bfloat16 against the operators in float64: values, states and gradients, at lengths
// beside the borders of chunks and tiles, of documents that follow one another, on one thread and on two.
import assert from "node:assert/strict";
import { test } from "node:test";

import { GrowingCache } from "../../generate/cache.js";
import type { Weights } from "../../model/architecture.js";
import { freshRouting } from "../../model/routing.js";
import { leaf, takeGrad } from "../../torch/autograd.js";
import { setThreads } from "../../torch/device.js";
import { backwardThrough, record } from "../../torch/graph.js";
import { onReference } from "../../torch/kernels/kernels.js";
import { ledger } from "../../torch/memory.js";
import { cast, linear, mulScalar, narrow, normal_ } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { type DType, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { groupedProjections, plainProjections } from "./delta-projections.js";
import type { GatedDelta } from "./delta-settings.js";
import { type DeltaLimits, gatedDeltaAttention } from "./gated-delta.js";

const WIDTH = 24;
/** Widths with and without a rest beside what goes through registers together. */
const SHAPES = {
  even: { keyHeads: 2, keyWidth: 16, valueHeads: 4, valueWidth: 32 },
  odd: { keyHeads: 3, keyWidth: 5, valueHeads: 3, valueWidth: 19 },
};
const settingsOf = (heads: (typeof SHAPES)["even"], grouped: boolean, kernel = 4): GatedDelta => ({
  ...{ hiddenSize: WIDTH, normEpsilon: 1e-6, ...heads, kernel },
  projections: (grouped ? groupedProjections : plainProjections)(heads),
});
const LAYERS: Record<string, GatedDelta> = {
  "grouped, even": settingsOf(SHAPES.even, true),
  "plain, odd": settingsOf(SHAPES.odd, false),
  "grouped, odd, two taps": settingsOf(SHAPES.odd, true, 2),
};

type Named = Record<string, Tensor>;

const weightsOf = (tensors: Named): Weights => ({
  get: (name) => tensors[name],
  experts: () => [],
  linear: (name, x) => linear(x, tensors[`${name}.weight`]),
});
const contextOf = (segments: number[], computeDtype: DType, cache?: GrowingCache) => ({
  ...{ segments, ends_S: null, rotary: [], computeDtype, routing: freshRouting, cache },
});

interface Course {
  settings: GatedDelta;
  segments: number[];
  type: DType;
  limits?: DeltaLimits;
}

/** The values, the gradient of x, and those of the weights. */
function results({ settings, segments, type, limits }: Course): Record<string, number[]> {
  return scope(() => {
    setSeed(11);
    const branch = gatedDeltaAttention(0, settings, limits);
    const tokens = segments.reduce((all, length) => all + length, 0);
    // In every dtype the same numbers.
    const random = (...size: number[]): Tensor =>
      cast(cast(mulScalar(normal_(zeros(size, "float64"), 0, 1), 0.5), "bfloat16"), type);
    const own = Object.fromEntries(branch.parameters.map(({ name, shape }) => [name, leaf(random(...shape))]));
    const [x_TD, dOut_TD] = [random(tokens, WIDTH), random(tokens, WIDTH)];
    const graph = record([x_TD], (x) => branch.evaluate(weightsOf(own), x, contextOf(segments, type)));
    const found: Record<string, number[]> = { values: toArray(graph.y) };
    const alone = toArray(branch.evaluate(weightsOf(own), x_TD, contextOf(segments, type)));
    assert.deepEqual(alone, found.values, "the same values without a graph");
    found.dx = toArray(backwardThrough(graph, dOut_TD)[0] as Tensor);
    for (const [name, t] of Object.entries(own)) found[name] = toArray(takeGrad(t) as Tensor);
    return found;
  });
}

/** Norm of the differences as a part of the norm: the largest difference alone would be chance. */
function distance(found: number[], expected: number[]): number {
  const scale = Math.max(1e-6, Math.hypot(...expected));
  return Math.hypot(...found.map((value, i) => value - expected[i])) / scale;
}

const SEGMENTS = [[1], [63], [64], [65], [200], [3, 64, 1, 65, 65, 2], [300, 257, 5]];

for (const [name, settings] of Object.entries(LAYERS)) {
  for (const segments of SEGMENTS) {
    test(`${name}, documents of ${segments}: values and gradients are as near to float64 as the operators'`, () => {
      const before = ledger();
      const expected = results({ settings, segments, type: "float64" });
      const found = results({ settings, segments, type: "float32" });
      const reference = onReference(() => results({ settings, segments, type: "float32" }));
      for (const [what, values] of Object.entries(expected)) {
        // Gradients of decays are differences of sums, which lose digits in either way of computing them.
        const [own, other] = [distance(found[what], values), distance(reference[what], values)];
        assert.ok(own < 1e-5 + 4 * other, `${what}: ${own}, the operators ${other}`);
      }
      assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
    });
  }
}

test("small chunks and tiles give what large ones give", () => {
  const settings = LAYERS["grouped, even"];
  const expected = results({ settings, segments: [70, 9], type: "float64" });
  for (const limits of [
    { chunk: 1, tile: 2 },
    { chunk: 7, tile: 21 },
    { chunk: 64, tile: 64 },
  ]) {
    const found = results({ settings, segments: [70, 9], type: "float32", limits });
    for (const [what, values] of Object.entries(expected)) assert.ok(distance(found[what], values) < 2e-5, what);
  }
});

test("in bfloat16 they are nearer to float64 than the operators are, but for chance", () => {
  const ratios: number[] = [];
  for (const settings of Object.values(LAYERS)) {
    const course = { settings, segments: [90, 70] };
    const expected = results({ ...course, type: "float64" });
    const found = results({ ...course, type: "bfloat16" });
    const reference = onReference(() => results({ ...course, type: "bfloat16" }));
    for (const [what, values] of Object.entries(expected)) {
      const [own, other] = [distance(found[what], values), distance(reference[what], values)];
      assert.ok(own < 2.5 * other + 2e-3, `${what}: ${own}, the operators ${other}`);
      ratios.push(Math.log(own / other));
    }
  }
  const mean = Math.exp(ratios.reduce((sum, each) => sum + each, 0) / ratios.length);
  assert.ok(mean < 1, `${mean}`);
});

test("one thread and two give the same bits, and so does a second time", () => {
  const course: Course = { settings: LAYERS["grouped, even"], segments: [130, 40], type: "float32" };
  try {
    setThreads(1);
    const expected = results(course);
    assert.deepEqual(results(course), expected);
    setThreads(2);
    assert.deepEqual(results(course), expected);
  } finally {
    setThreads(0);
  }
});

test("pieces of a text with a cache give what the whole gives", () => {
  scope(() => {
    setSeed(6);
    const branch = gatedDeltaAttention(3, LAYERS["plain, odd"]);
    const random = (...size: number[]): Tensor => mulScalar(normal_(zeros(size, "float32"), 0, 1), 0.5);
    const weights = weightsOf(Object.fromEntries(branch.parameters.map(({ name, shape }) => [name, random(...shape)])));
    const x_TD = random(150, WIDTH);
    const whole = toArray(branch.evaluate(weights, x_TD, contextOf([150], "float32")));
    const cache = new GrowingCache();
    let row = 0;
    for (const length of [2, 1, 80, 1, 1, 65]) {
      const piece = toArray(
        branch.evaluate(weights, narrow(x_TD, 0, row, length), contextOf([length], "float32", cache)),
      );
      assert.ok(distance(piece, whole.slice(WIDTH * row, WIDTH * (row + length))) < 1e-5, `from row ${row}`);
      row += length;
    }
    cache.free();
  });
});

test("keys and values come from the memory, queries and gates from the input", () => {
  const gradients = (type: DType): number[][] =>
    scope(() => {
      setSeed(8);
      const settings = LAYERS["grouped, even"];
      const branch = gatedDeltaAttention(0, settings);
      const random = (...size: number[]): Tensor => cast(mulScalar(normal_(zeros(size, "float64"), 0, 1), 0.5), type);
      const weights = weightsOf(
        Object.fromEntries(branch.parameters.map(({ name, shape }) => [name, random(...shape)])),
      );
      const [x_TD, memory_TD, dOut_TD] = [random(70, WIDTH), random(70, WIDTH), random(70, WIDTH)];
      const graph = record([x_TD, memory_TD], (x, memory) =>
        branch.evaluate(weights, x, contextOf([70], type), memory),
      );
      const y = toArray(graph.y);
      return [y, ...backwardThrough(graph, dOut_TD).map((t) => toArray(t as Tensor))];
    });
  const expected = gradients("float64");
  for (const [i, found] of gradients("float32").entries()) assert.ok(distance(found, expected[i]) < 1e-4, `${i}`);
});
