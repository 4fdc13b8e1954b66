// What a kernel does in one pass, against the same layer on the reference in float64: norms, heads turned by their positions, gated products,
// values and gradients. Sizes leave ends that fill no vector; rows are enough for sums of sums.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { setThreads } from "../torch/device.js";
import { onReference } from "../torch/kernels/kernels.js";
import { add, cast, cos, narrow, normal_, sin } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { type DType, dtype, fromArray, shape, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { gated } from "./gated.js";
import { type NormForm, rmsNorm } from "./norm.js";
import { rotate } from "./rotate.js";

const ONE_MORE: NormForm = "product with 1 + w rounded";

const random = (...size: number[]): Tensor => normal_(zeros(size, "float32"), 0, 1);
const inDtype = (t: Tensor, type: DType): Tensor => cast(t, type);

/** Inputs in float32; `narrowed` are those that come in the dtype of the test. `of` is called with leaves of them. */
interface Case {
  inputs: () => Tensor[];
  narrowed: number[];
  of: (inputs: Tensor[], type: DType) => Tensor;
}

/** Tables of positions [T, R] in a dtype. */
function tables(tokens: number, turning: number, type: DType, neighbours: boolean) {
  const angles = Array.from({ length: tokens * turning }, (_, i) => {
    const [token, feature] = [Math.floor(i / turning), i % (turning / 2)];
    return token / 100 ** (feature / turning);
  });
  const angles_TR = fromArray(angles, [tokens, turning], "float32");
  const [cos_TR, sin_TR] = [cos, sin].map((f) => inDtype(f(angles_TR), type));
  return { cos_TR, sin_TR, ...(neighbours && { neighbours }) };
}

const heads = (form: NormForm | null, turning: number, neighbours: boolean, wideTables: boolean, start = 0): Case => ({
  inputs: () => [random(37, 3, 52), ...(form ? [random(23)] : [])],
  narrowed: [0],
  of: ([x_THN, weight_C], type) => {
    // Tables have rounded numbers in either run.
    const { cos_TR, sin_TR, ...how } = tables(37, turning, wideTables ? "float32" : type, neighbours);
    const tableDtype = dtype(x_THN) === "float64" ? "float64" : dtype(cos_TR);
    const own = { cos_TR: inDtype(cos_TR, tableDtype), sin_TR: inDtype(sin_TR, tableDtype), ...how };
    const norm = form && { weight_C, epsilon: 1e-3, form };
    return rotate(narrow(x_THN, 2, 7, 23), own, { norm, start });
  },
});

const CASES: Record<string, Case> = {
  "a norm from float32": {
    inputs: () => [random(700, 45), random(45)],
    narrowed: [],
    of: ([x, w], type) => rmsNorm(x, w, 1e-3, dtype(x) === "float64" ? "float64" : type),
  },
  "a norm of parts of rows, 1 + w": {
    inputs: () => [random(21, 70), random(45)],
    narrowed: [0],
    of: ([x, w]) => rmsNorm(narrow(x, 1, 9, 45), w, 1e-3, dtype(x), ONE_MORE),
  },
  "a norm of heads that do not turn": {
    inputs: () => [random(21, 4, 33), random(33)],
    narrowed: [0],
    of: ([x, w]) => rmsNorm(x, w, 1e-3, dtype(x), "product rounded"),
  },
  "heads that turn": heads(null, 22, false, false),
  "neighbours that turn, some of a head": heads(null, 8, true, false),
  "neighbours that turn by wide tables": heads(null, 22, true, true),
  "heads with a norm, some turn": heads("n rounded", 10, false, false),
  "heads with a norm, some in the middle turn": heads("n rounded", 10, false, false, 5),
  "neighbours that turn at the end of a head": heads(null, 8, true, true, 15),
  "heads with a norm of 1 + w turn by wide tables": heads(ONE_MORE, 22, false, true),
  "neighbours with a norm": heads("n rounded", 22, true, false),
  "a gated unit": {
    inputs: () => [random(19, 75), random(19, 75)],
    narrowed: [0, 1],
    of: ([gate, x]) => gated("silu", gate, x),
  },
  "a gate beside its heads": {
    inputs: () => [random(19, 3, 50), random(19, 3, 25)],
    narrowed: [0, 1],
    of: ([gate, x]) => gated("sigmoid", narrow(gate, 2, 25, 25), x),
  },
};

/** The value and the gradients of all inputs for a fixed gradient of the value, all as numbers. */
function run({ narrowed, of }: Case, inputs: Tensor[], type: DType, every: DType | null = null): number[][] {
  return scope(() => {
    const leaves = inputs.map((t, i) =>
      leaf(inDtype(narrowed.includes(i) ? inDtype(t, type) : t, every ?? (narrowed.includes(i) ? type : "float32"))),
    );
    const y = withGrad(() => of(leaves, type));
    const count = shape(y).reduce((product, size) => product * size, 1);
    // Exact in bfloat16.
    const dy = Array.from({ length: count }, (_, i) => ((i * 37) % 101) / 64 - 0.75);
    backward([y], [fromArray(dy, shape(y), dtype(y))]);
    return [y, ...leaves.map((t) => takeGrad(t) as Tensor)].map(toArray);
  });
}

const norm = (values: number[]): number => Math.hypot(...values);
const difference = (a: number[], b: number[]): number[] => a.map((value, i) => value - b[i]);
/** Between a number and the next of bfloat16. */
const unit = (value: number): number => 2 ** (Math.floor(Math.log2(Math.abs(value) + 1e-30)) - 7);

for (const [name, each] of Object.entries(CASES)) {
  test(`${name}: float32 within 1e-6 of float64`, () => {
    scope(() => {
      setSeed(1);
      const inputs = each.inputs();
      const exact = onReference(() => run(each, inputs, "float32", "float64"));
      for (const [i, values] of run(each, inputs, "float32").entries()) {
        const error = norm(difference(values, exact[i])) / norm(exact[i]);
        assert.ok(error < 1e-6, `${i === 0 ? "value" : `gradient ${i - 1}`}: ${error}`);
      }
    });
  });

  test(`${name}: bfloat16 rounded once, and equal in the mean`, () => {
    scope(() => {
      setSeed(2);
      const inputs = each.inputs();
      const exact = onReference(() => run(each, inputs, "bfloat16", "float64"));
      for (const [i, values] of run(each, inputs, "bfloat16").entries()) {
        // Weights, and what comes in float32, have gradients in float32.
        if (i > 0 && !each.narrowed.includes(i - 1)) {
          assert.ok(norm(difference(values, exact[i])) / norm(exact[i]) < 1e-6, `gradient ${i - 1}`);
          continue;
        }
        let signed = 0;
        for (const [j, value] of values.entries()) {
          // Where terms cancel, float32's own error is seen beside the rounding.
          const error = (value - exact[i][j]) / (unit(exact[i][j]) + 1e-4);
          assert.ok(Math.abs(error) < 0.51, `${i}, element ${j}: ${value}, not ${exact[i][j]}`);
          signed += error;
        }
        assert.ok(Math.abs(signed) < 2 * Math.sqrt(values.length), `${i}: ${signed / values.length} units in the mean`);
      }
    });
  });

  test(`${name}: the same bits again and with two threads`, () => {
    scope(() => {
      setSeed(3);
      const inputs = each.inputs();
      const first = run(each, inputs, "bfloat16");
      assert.deepEqual(run(each, inputs, "bfloat16"), first);
      setThreads(2);
      assert.deepEqual(run(each, inputs, "bfloat16"), first);
      setThreads(1);
    });
  });
}

test("a gradient of the weight alone, of x alone, and one that is added to what is there", () => {
  scope(() => {
    setSeed(4);
    const [x, w, dy] = [random(40, 9), random(9), random(40, 9)];
    const gradients = (trainsX: boolean, trainsW: boolean, before?: Tensor): (number[] | null)[] => {
      const leaves = [trainsX ? leaf(x) : x, trainsW ? leaf(w, before) : w];
      const y = withGrad(() => rmsNorm(leaves[0], leaves[1], 1e-6, "float32"));
      backward([y], [dy]);
      return leaves.map((t) => takeGrad(t)).map((t) => (t === null ? null : toArray(t)));
    };
    const [dx, dw] = gradients(true, true);
    assert.deepEqual(gradients(true, false), [dx, null]);
    assert.deepEqual(gradients(false, true), [null, dw]);
    const before = random(9);
    const sum = toArray(add(before, fromArray(dw as number[], [9], "float32")));
    assert.deepEqual(gradients(true, true, before)[1], sum);
  });
});

test("gates far from zero: no value is lost", () => {
  scope(() => {
    const gate = fromArray([-200, -88.5, -20, 0, 20, 88.5, 200], [7], "float32");
    const x = fromArray(new Array<number>(7).fill(2), [7], "float32");
    assert.deepEqual(toArray(gated("sigmoid", gate, x)).slice(3), [1, 2, 2, 2]);
    const silu = toArray(gated("silu", gate, x));
    assert.deepEqual(silu.slice(3), [0, 40, 177, 400]);
    assert.ok(silu.every((value) => Number.isFinite(value)));
  });
});
