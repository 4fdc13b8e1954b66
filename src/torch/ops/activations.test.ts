// The activations of the experts' operator, with and without biases, gate and up as halves or in turn: against the same made of ATen's operators,
// against the form that keeps rows, and against what the engine that counts says.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, leaf, setGrad, takeGrad, withGrad } from "../autograd.js";
import { native } from "../binding.js";
import * as ops from "../ops.js";
import { onReference } from "../kernels/kernels.js";
import { setSeed } from "../random.js";
import { scope } from "../scope.js";
import { testCourses, type Work } from "../shadow/testing-course.js";
import { type DType, dtype, empty, fromArray, full, shape, type Tensor, toArray, zeros } from "../tensor.js";
import { countsOf, expertsOnRows } from "./testing-rows.js";

interface Case {
  activation: ops.ExpertActivation;
  interleaved: boolean;
  biased: boolean;
}
const CASES: Case[] = ops.EXPERT_ACTIVATIONS.flatMap((activation) =>
  (activation === "relu_squared" ? [false] : [false, true]).flatMap((interleaved) =>
    [false, true].map((biased) => ({ activation, interleaved, biased })),
  ),
);
const nameOf = ({ activation, interleaved, biased }: Case): string =>
  `${activation}${interleaved ? ", interleaved" : ""}${biased ? ", with biases" : ""}`;

// So low that a good part of the rows is clamped.
const [LIMIT, ALPHA] = [0.8, 1.3];
const [WIDTH, INNER] = [8, 6];
const ROWS = [3, 0, 21, 8];
const ALL = 32;

interface Layer {
  x: Tensor;
  gateUp: Tensor[];
  down: Tensor[];
  biases: Tensor[];
}

const normal = (size: number[], std = 1): Tensor => ops.normal_(zeros(size, "float64"), 0, std);

function layerOf({ activation, biased }: Case, rows = ROWS, of: (t: Tensor) => Tensor = leaf): Layer {
  setSeed(rows.length);
  const columns = activation === "relu_squared" ? INNER : 2 * INNER;
  const each = (size: number[]): Tensor[] => rows.map(() => of(normal(size, 0.5)));
  return {
    x: of(normal([ALL, WIDTH])),
    gateUp: each([columns, WIDTH]),
    down: each([WIDTH, INNER]),
    biases: biased ? [...each([columns]), ...each([WIDTH])] : [],
  };
}
const parametersOf = ({ gateUp, down, biases }: Layer): Tensor[] => [...gateUp, ...down, ...biases];

const experts = ({ x, gateUp, down, biases }: Layer, { activation, interleaved }: Case, rows = ROWS): Tensor =>
  expertsOnRows(x, gateUp, down, rows, { biases }, activation, interleaved, LIMIT, ALPHA);

/** Of the rows of the first product. */
function composed(both: Tensor, { activation, interleaved }: Case, limit: number, alpha: number): Tensor {
  const [rows, columns] = shape(both);
  const width = columns / 2;
  const part = (i: number): Tensor =>
    interleaved ? ops.select(ops.reshape(both, [rows, width, 2]), 2, i) : ops.narrow(both, 1, i * width, width);
  switch (activation) {
    case "silu":
      return ops.mul(ops.silu(part(0)), part(1));
    case "gelu_tanh": {
      // (1 + tanh z) / 2 = sigmoid(2 z)
      const gate = part(0);
      const cube = ops.mul(ops.mul(gate, gate), gate);
      const z = ops.mulScalar(ops.add(gate, ops.mulScalar(cube, 0.044715)), 2 * Math.sqrt(2 / Math.PI));
      return ops.mul(ops.mul(gate, ops.sigmoid(z)), part(1));
    }
    case "clamped_swiglu": {
      const [gate, up] = [ops.clamp(part(0), null, limit), ops.clamp(part(1), -limit, limit)];
      return ops.mul(ops.addScalar(up, 1), ops.mul(gate, ops.sigmoid(ops.mulScalar(gate, alpha))));
    }
    case "relu_squared": {
      const up = ops.clamp(both, 0, null);
      return ops.mul(up, up);
    }
  }
}

function oneByOne({ x, gateUp, down, biases }: Layer, of: Case, rows = ROWS, limit = LIMIT, alpha = ALPHA): Tensor {
  let first = 0;
  const parts = rows.map((count, e) => {
    const both = ops.linear(ops.narrow(x, 0, first, count), gateUp[e], biases[e] ?? null);
    first += count;
    return ops.linear(composed(both, of, limit, alpha), down[e], biases[rows.length + e] ?? null);
  });
  return ops.cat(parts, 0);
}

function assertNear(actual: Tensor, expected: Tensor, bound: number, name: string): void {
  const [values, right] = [actual, expected].map(toArray);
  const most = Math.max(...right.map(Math.abs), 1e-3);
  assert.equal(values.length, right.length);
  values.forEach((value, i) =>
    assert.ok(Math.abs(value - right[i]) <= bound * most, `${name}, element ${i}: ${value}, not ${right[i]}`),
  );
}

/** y and the gradients of x and of all parameters, null for those of an expert without rows. */
function valuesOf(layer: Layer, dy: Tensor, compute: (layer: Layer) => Tensor): (Tensor | null)[] {
  const y = withGrad(() => compute(layer));
  backward([y], [dy]);
  return [y, ...[layer.x, ...parametersOf(layer)].map(takeGrad)];
}

test("both sides know the same activations", () => {
  assert.deepEqual(
    native.expertLimits().activations.map(({ name }) => name),
    ops.EXPERT_ACTIVATIONS,
  );
});

for (const each of CASES) {
  for (const [type, bound] of [
    ["float64", 1e-10],
    ["float32", 1e-5],
    ["bfloat16", 0.04],
  ] as [DType, number][]) {
    test(`${nameOf(each)}, ${type}: value and every gradient are those of the experts one by one`, () => {
      scope(() => {
        const narrow = (t: Tensor): Tensor => ops.cast(t, type);
        const ours = layerOf(each, ROWS, (t) => leaf(narrow(t)));
        // From the same rounded numbers, exactly.
        const theirs = layerOf(each, ROWS, (t) => leaf(ops.cast(narrow(t), "float64")));
        const dy = narrow(normal([ALL, WIDTH]));
        const right = valuesOf(theirs, ops.cast(dy, "float64"), (layer) => oneByOne(layer, each));
        const withoutGraph = experts(ours, each);
        for (const [i, made] of valuesOf(ours, dy, (layer) => experts(layer, each)).entries()) {
          if (made !== null) assertNear(made, right[i] as Tensor, bound, `result ${i}`);
          else assert.ok(toArray(right[i] as Tensor).every((value) => value === 0));
        }
        assertNear(withoutGraph, right[0] as Tensor, bound, "without a graph");
      });
    });
  }

  test(`${nameOf(each)}: kept rows make gradients with the same bits as the whole backward pass`, () => {
    scope(() => {
      const layer = layerOf(each, ROWS, (t) => leaf(ops.cast(t, "float32")));
      const dy = ops.cast(normal([ALL, WIDTH]), "float32");
      const [y, dx, ...gradients] = valuesOf(layer, dy, (l) => experts(l, each));
      const columns = shape(layer.gateUp[0])[0];
      const kept = [WIDTH, columns, INNER, WIDTH].map((count) => empty([ALL, count], "float32"));
      const { activation, interleaved } = each;
      const keeping = (l: Layer): Tensor =>
        expertsOnRows(l.x, l.gateUp, l.down, ROWS, { biases: l.biases, kept }, activation, interleaved, LIMIT, ALPHA);
      const [again, dxAgain, ...none] = valuesOf(layer, dy, keeping);
      assert.deepEqual(toArray(again as Tensor), toArray(y as Tensor));
      assert.deepEqual(toArray(dxAgain as Tensor), toArray(dx as Tensor));
      const matrices = 2 * ROWS.length;
      assert.ok(none.slice(0, matrices).every((gradient) => gradient === null));
      for (const [i, gradient] of none.slice(matrices).entries())
        assert.deepEqual(gradient && toArray(gradient), gradients[matrices + i] && toArray(gradients[matrices + i]!));
      const counts = countsOf(ROWS);
      const sums = parametersOf(layer)
        .slice(0, matrices)
        .map((parameter) => full(shape(parameter), 5, "float32"));
      const of = (part: number, first: number, count: number): Tensor[] =>
        sums.slice(part * ROWS.length + first, part * ROWS.length + first + count);
      for (const [first, count] of [
        [0, 3],
        [3, 1],
      ]) {
        ops.expertGradients_(of(0, first, count), kept[1], kept[0], counts, null, first, false, true);
        ops.expertGradients_(of(1, first, count), kept[3], kept[2], counts, null, first, false, true);
      }
      for (const [i, sum] of sums.entries()) {
        const gradient = gradients[i];
        assert.deepEqual(
          toArray(sum),
          gradient ? toArray(gradient) : toArray(zeros(shape(sum), "float32")),
          `sum ${i}`,
        );
      }
    });
  });
}

test("without a graph the values have the same bits, whatever the width", () => {
  for (const each of CASES) {
    for (const width of [5, 12, 16, 35]) {
      scope(() => {
        setSeed(width);
        const columns = each.activation === "relu_squared" ? width : 2 * width;
        const make = (...size: number[]): Tensor => ops.cast(normal(size, 0.7), "float32");
        const layer: Layer = {
          x: make(ALL, WIDTH),
          gateUp: ROWS.map(() => make(columns, WIDTH)),
          down: ROWS.map(() => make(WIDTH, width)),
          biases: [],
        };
        const recorded = withGrad(() => experts({ ...layer, x: leaf(layer.x) }, each));
        assert.deepEqual(toArray(experts(layer, each)), toArray(recorded), `${nameOf(each)}, ${width}`);
      });
    }
  }
});

test("the numbers of gpt_oss are the operator's own, and gate and up have no gradient from their limits on", () => {
  scope(() => {
    const each: Case = { activation: "clamped_swiglu", interleaved: true, biased: true };
    const limit = 7;
    const both = [7, 6.9, 7.5, -7, -9, 7.5, 3, -7.5, 6.9, 0, -7, -2];
    const layer: Layer = {
      ...layerOf(each, [ALL]),
      x: leaf(zeros([ALL, WIDTH], "float64")),
      biases: [leaf(fromArray(both, [12], "float64")), leaf(normal([WIDTH]))],
    };
    const [y, , , , dBoth] = valuesOf(layer, normal([ALL, WIDTH]), ({ x, gateUp, down, biases }) =>
      expertsOnRows(x, gateUp, down, [ALL], { biases }, "clamped_swiglu", true),
    );
    assertNear(y as Tensor, oneByOne(layer, each, [ALL], limit, 1.702), 1e-10, "y");
    // libtorch's own clamp passes a gradient at the limit, or none, by its version.
    assert.deepEqual(
      toArray(dBoth as Tensor).map((value) => value !== 0),
      both.map((value, i) => value < limit && (i % 2 === 0 || value > -limit)),
    );
  });
});

test("what does not belong together is refused in words", () => {
  scope(() => {
    const { x, gateUp, down, biases } = layerOf({ activation: "silu", interleaved: false, biased: true });
    const call =
      (...rest: unknown[]) =>
      () =>
        expertsOnRows(x, gateUp, down, ROWS, { biases: rest[0] as Tensor[] }, ...(rest.slice(1) as []));
    assert.throws(call([], "swish"), /"swish" is no activation of experts/);
    assert.throws(call([], "relu_squared"), /relu_squared makes 12 columns to 12, and the second matrix takes 6/);
    assert.throws(call([], "relu_squared", true), /relu_squared has no gate that could be interleaved/);
    assert.throws(call(biases.slice(1)), /each expert needs two biases, or none has one/);
    assert.throws(call([], "clamped_swiglu", false, 0), /limit and alpha must be above zero/);
  });
});

/** Both forms, with gradients that are made, that are added to those of the same type, and of another. */
function course(each: Case, type: DType): Work {
  return (mark) => {
    const rows = [9, 0, 16, 7];
    const made = layerOf(each, rows, (t) => leaf(ops.cast(t, type)));
    mark();
    scope(() => void experts(made, each, rows));
    mark();
    for (const [i, parameter] of parametersOf(made).entries()) {
      if (i % 3 > 0) setGrad(parameter, zeros(shape(parameter), i % 3 === 1 ? dtype(parameter) : "float32"));
    }
    const dy = ops.cast(normal([ALL, WIDTH]), type);
    const y = scope(() => withGrad(() => experts(made, each, rows)));
    mark();
    backward([y], [dy]);
    mark();
    const kept = [WIDTH, shape(made.gateUp[0])[0], INNER, WIDTH].map((columns) => empty([ALL, columns], type));
    const { activation, interleaved } = each;
    const again = scope(() =>
      withGrad(() =>
        expertsOnRows(made.x, made.gateUp, made.down, rows, { biases: made.biases, kept }, activation, interleaved),
      ),
    );
    mark();
    backward([again], [dy]);
    mark();
  };
}

testCourses(
  Object.fromEntries(
    CASES.flatMap((each) =>
      (["float32", "bfloat16"] as DType[]).flatMap((type): [string, Work][] => [
        [`${nameOf(each)}, ${type}`, course(each, type)],
        [`${nameOf(each)}, ${type}, without kernels`, (mark) => onReference(() => course(each, type)(mark))],
      ]),
    ),
  ),
);
