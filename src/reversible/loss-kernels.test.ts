// The kernels of the losses against the reference in float64 on the same logits, and what they promise beside the values.
import assert from "node:assert/strict";
import { test } from "node:test";

import { clone, cast, crossEntropy_, divergence_, normal_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, empty, fromArray, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { setThreads } from "../torch/device.js";
import type { LogitScales } from "./logits.js";
import { crossEntropyReference, divergenceReference } from "./loss-reference.js";

const ROWS = 5;
const SCALE = 0.125;
const SCALES: LogitScales[] = [
  { logits: 1, softCap: null },
  { logits: 0.25, softCap: null },
  { logits: 1, softCap: 30 },
  { logits: 3, softCap: 20 },
];

const logitsOf = (vocabulary: number, type: DType): Tensor =>
  cast(normal_(zeros([ROWS, vocabulary], "float32"), 0, 4), type);
const labelsOf = (vocabulary: number): Tensor =>
  fromArray(
    Array.from({ length: ROWS }, (_, i) => (i * 7919 + 1) % vocabulary),
    [ROWS],
    "int64",
  );

/** Figures, then the gradient, of what is measured on a copy of the logits in a type. */
function measure(logits: Tensor, type: DType, work: (z_NV: Tensor, figures_N2: Tensor) => void): [number[], number[]] {
  const [z_NV, figures_N2] = [clone(cast(logits, type)), empty([ROWS, 2], "float64")];
  work(z_NV, figures_N2);
  return [toArray(figures_N2), toArray(z_NV)];
}

/** Figures within 2e-6, gradients within what the type of the logits rounds and 2e-6 of the largest that there can be. */
function assertNear(
  [figures, gradient]: number[][],
  [trueFigures, trueGradient]: number[][],
  type: DType,
  most: number,
) {
  for (const [i, value] of trueFigures.entries())
    assert.ok(Math.abs(figures[i] - value) <= 2e-6 * Math.max(1, Math.abs(value)), `${figures[i]} for ${value}`);
  const rounds = type === "bfloat16" ? 2 ** -8 : 0;
  for (const [i, value] of trueGradient.entries())
    assert.ok(Math.abs(gradient[i] - value) <= rounds * Math.abs(value) + 2e-6 * most, `${gradient[i]} for ${value}`);
}

for (const type of ["float32", "bfloat16"] as const) {
  for (const scales of SCALES) {
    const { logits: factor, softCap } = scales;
    test(`${type}, factor ${factor}, cap ${softCap}: figures and gradients are those of the reference in float64`, () => {
      scope(() => {
        setSeed(5);
        for (const vocabulary of [1, 37, 8192, 20_003]) {
          const [logits, teacher, labels] = [
            logitsOf(vocabulary, type),
            logitsOf(vocabulary, type),
            labelsOf(vocabulary),
          ];
          const tile = (logits_NV: Tensor, figures_N2: Tensor) => ({ logits_NV, figures_N2, scales, first: 0 });
          assertNear(
            measure(logits, type, (z, figures) => crossEntropy_(z, labels, figures, factor, softCap ?? 0, SCALE)),
            measure(logits, "float64", (z, figures) => crossEntropyReference(tile(z, figures), labels, SCALE)),
            type,
            SCALE * factor,
          );
          const ofTeacher = { logits_NV: clone(cast(teacher, "float64")), scales: SCALES[0] };
          assertNear(
            measure(logits, type, (z, figures) =>
              divergence_(z, factor, softCap ?? 0, teacher, 1, 0, figures, 4, SCALE),
            ),
            measure(logits, "float64", (z, figures) => divergenceReference(tile(z, figures), ofTeacher, 4, SCALE)),
            type,
            4 * SCALE * factor,
          );
        }
      });
    });
  }
}

test("without a scale the logits stay, and figures are the same; so they are on one thread and two, with the same bits", () => {
  scope(() => {
    for (const type of ["float32", "bfloat16"] as const) {
      const [logits, labels] = [logitsOf(9001, type), labelsOf(9001)];
      const run = (scale: number | null): [number[], number[]] =>
        measure(logits, type, (z, figures) => crossEntropy_(z, labels, figures, 1, 0, scale));
      const both = run(SCALE);
      assert.deepEqual(run(null), [both[0], toArray(logits)]);
      setThreads(1);
      const alone = run(SCALE);
      setThreads(2);
      assert.deepEqual(alone, run(SCALE));
      assert.deepEqual(alone, both);
    }
  });
});

test("large logits, logits of minus infinity and ties are measured; what is no number stays so, and a label that is no token makes one", () => {
  scope(() => {
    const rows = [
      [1e4, -1e4, 1e4, 0],
      [Number.NEGATIVE_INFINITY, 2, Number.NEGATIVE_INFINITY, 1],
      [0, Number.NaN, 0, 0],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ];
    const labels = fromArray([2, 3, 0, 4, -1], [5], "int64");
    const logits = fromArray(rows.flat(), [5, 4], "float32");
    const [figures, gradient] = measure(logits, "float32", (z, into) => crossEntropy_(z, labels, into, 1, 0, 1));
    const close = (value: number, wanted: number): void => assert.ok(Math.abs(value - wanted) < 1e-6, `${value}`);
    close(figures[0], Math.log(2));
    assert.equal(figures[1], 1, "a tie is right");
    close(figures[2], Math.log(1 + Math.E));
    assert.equal(figures[3], 0);
    assert.deepEqual(gradient.slice(0, 4), [0.5, 0, -0.5, 0]);
    assert.deepEqual([gradient[4], gradient[6]], [0, 0]);
    for (const row of [2, 3, 4]) assert.ok(Number.isNaN(figures[2 * row]), `row ${row}`);
  });
});

test("a teacher that is the student is at no distance and pulls nowhere", () => {
  scope(() => {
    for (const type of ["float32", "bfloat16"] as const) {
      const logits = logitsOf(9001, type);
      const [figures, gradient] = measure(logits, type, (z, into) =>
        divergence_(z, 1, 0, logits, 1, 0, into, 1, SCALE),
      );
      assert.ok([...figures, ...gradient].every((value) => value === 0));
    }
  });
});
