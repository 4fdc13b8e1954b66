// The experts' operator against the same product spelt out expert by expert, and what it promises of bits and memory.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, detach, leaf, setGrad, takeGrad, withGrad } from "../autograd.js";
import { engineInfo, setThreads } from "../device.js";
import {
  add,
  takeProducts_,
  cast,
  cat,
  expertGradients_,
  fill_,
  linear,
  mul,
  mulScalar_,
  narrow,
  normal_,
  silu,
  sub,
} from "../ops.js";
import { setSeed } from "../random.js";
import { countsOf, expertsOnRows } from "./testing-rows.js";
import { scope } from "../scope.js";
import { type DType, dtype, shape, type Tensor, toArray, zeros } from "../tensor.js";

const [WIDTH, INNER] = [6, 4];
const random = (size: number[], type: DType = "float64", std = 1): Tensor => normal_(zeros(size, type), 0, std);

interface Layer {
  x_RD: Tensor;
  gateUp: Tensor[];
  down: Tensor[];
  rows: number[];
}

function layerOf(rows: number[], type: DType, width = WIDTH, inner = INNER): Layer {
  setSeed(rows.length);
  const [each, all] = [rows.map(() => 0), rows.reduce((sum, count) => sum + count, 0)];
  return {
    x_RD: random([all, width], type),
    gateUp: each.map(() => random([2 * inner, width], type, 0.5)),
    down: each.map(() => random([width, inner], type, 0.5)),
    rows,
  };
}

const weightsOf = ({ gateUp, down }: Layer): Tensor[] => [...gateUp, ...down];
const asLeaves = (layer: Layer): Layer => ({
  ...layer,
  x_RD: leaf(layer.x_RD),
  gateUp: layer.gateUp.map((weight) => leaf(weight)),
  down: layer.down.map((weight) => leaf(weight)),
});
const together = ({ x_RD, gateUp, down, rows }: Layer): Tensor => expertsOnRows(x_RD, gateUp, down, rows);

function oneByOne({ x_RD, gateUp, down, rows }: Layer): Tensor {
  let first = 0;
  const parts = rows.map((count, expert) => {
    const x_ND = narrow(x_RD, 0, first, count);
    first += count;
    const both = linear(x_ND, gateUp[expert]);
    const half = (start: number): Tensor => narrow(both, 1, start, INNER);
    return linear(mul(silu(half(0)), half(INNER)), down[expert]);
  });
  return cat(parts, 0);
}

const assertNear = (actual: Tensor, expected: Tensor, bound: number): void =>
  toArray(sub(cast(actual, "float64"), cast(expected, "float64"))).forEach((off, i) =>
    assert.ok(Math.abs(off) <= bound, `element ${i} is off by ${off}`),
  );

for (const rows of [[3, 0, 5, 1], [600, 2, 0, 7, 4], [11]]) {
  test(`rows ${rows.join(", ")}: value and every gradient are those of the experts one by one`, () => {
    scope(() => {
      const plain = layerOf(rows, "float64");
      const [ours, theirs] = [asLeaves(plain), asLeaves(plain)];
      const [y, expected] = withGrad(() => [together(ours), oneByOne(theirs)]);
      assertNear(y, expected, 1e-12);
      assertNear(together(plain), expected, 1e-12);
      const dy = random([rows.reduce((sum, count) => sum + count, 0), WIDTH]);
      backward([y], [dy]);
      backward([expected], [dy]);
      const gradients = (layer: Layer): (Tensor | null)[] => [layer.x_RD, ...weightsOf(layer)].map(takeGrad);
      const [mine, right] = [gradients(ours), gradients(theirs)];
      for (const [i, gradient] of mine.entries()) {
        // An expert without rows has none.
        if (gradient === null)
          assert.ok(
            toArray(right[i] as Tensor).every((value) => value === 0),
            `gradient ${i}`,
          );
        else assertNear(gradient, right[i] as Tensor, 1e-12);
      }
      assert.equal(mine.filter((gradient) => gradient === null).length, 2 * rows.filter((count) => count === 0).length);
    });
  });
}

for (const type of ["float32", "bfloat16"] as DType[]) {
  test(`${type}: gradients are added to float32 buffers, and what is not trained stays out`, () => {
    scope(() => {
      const layer = asLeaves(layerOf([5, 4, 0, 9], type));
      layer.gateUp[0] = detach(layer.gateUp[0]);
      const buffers = weightsOf(layer).map((weight) => random(shape(weight), "float32"));
      const before = buffers.map((buffer) => toArray(buffer));
      weightsOf(layer).forEach((weight, i) => weight !== layer.gateUp[0] && setGrad(weight, buffers[i]));
      const dy = random([18, WIDTH], type);
      for (const _pass of [1, 2]) backward([withGrad(() => together(layer))], [dy]);
      const fresh = asLeaves(layer);
      backward([withGrad(() => together(fresh))], [dy]);
      for (const [i, weight] of weightsOf(fresh).entries()) {
        const once = takeGrad(weight);
        if (i === 0 || once === null) {
          assert.deepEqual(toArray(buffers[i]), before[i]);
          continue;
        }
        assert.equal(dtype(buffers[i]), "float32");
        const [now, gradient] = [toArray(buffers[i]), toArray(cast(once, "float64"))];
        now.forEach((value, at) => {
          const expected = before[i][at] + 2 * gradient[at];
          assert.ok(Math.abs(value - expected) < 2e-5 * (1 + Math.abs(expected)), `${value}, not ${expected}`);
        });
      }
    });
  });
}

test("the same bits for any number of threads up to that of experts, when none has many rows", () => {
  const threads = engineInfo().threads;
  const bits = (count: number): number[][] =>
    scope(() => {
      setThreads(count);
      const layer = asLeaves(layerOf([40, 7, 0, 130, 61, 22], "float32", 96, 64));
      const y = withGrad(() => together(layer));
      backward([y], [add(y, y)]);
      return [y, ...[layer.x_RD, ...weightsOf(layer)].map(takeGrad)].flatMap((t) => (t === null ? [] : [toArray(t)]));
    });
  try {
    const [one, two, three] = [1, 2, 3].map(bits);
    assert.deepEqual(two, one);
    assert.deepEqual(three, one);
  } finally {
    setThreads(threads);
  }
});

for (const [type, of] of [
  ["bfloat16", "float32"],
  ["float32", "bfloat16"],
] as DType[][]) {
  test(`${type} weights of ${of} rows: the same bits as weights cast beforehand, without and with gradients to add to`, (t) => {
    const { threads } = engineInfo();
    t.after(() => setThreads(threads));
    scope(() => {
      const layer = layerOf([40, 0, 7, 530, 61], of, 32, 24);
      const [gateUp, down] = [layer.gateUp, layer.down].map((weights) => weights.map((weight) => cast(weight, type)));
      const stored = { ...layer, gateUp, down };
      const opened = {
        ...layer,
        gateUp: gateUp.map((weight) => cast(weight, of)),
        down: down.map((weight) => cast(weight, of)),
      };
      const dy = random([638, 32], of);
      const run = (plain: Layer, buffered: boolean) => {
        setSeed(7);
        const leaves = asLeaves(plain);
        if (buffered) for (const weight of weightsOf(leaves)) setGrad(weight, random(shape(weight), "float32"));
        const y = withGrad(() => together(leaves));
        backward([y], [dy]);
        assert.deepEqual(toArray(together(plain)), toArray(y));
        return { y, gradients: [leaves.x_RD, ...weightsOf(leaves)].map(takeGrad) };
      };
      for (const buffered of [true, false]) {
        // A gradient that is made in another type has its turn alone, on all threads, and a product's bits may depend on their number.
        setThreads(buffered ? threads : 1);
        const [ours, expected] = [stored, opened].map((plain) => run(plain, buffered));
        assert.deepEqual(toArray(ours.y), toArray(expected.y));
        for (const [i, gradient] of ours.gradients.entries()) {
          const right = expected.gradients[i];
          assert.equal(gradient === null, right === null);
          if (gradient === null || right === null) continue;
          // A gradient that is made has the type of its weight.
          assert.deepEqual(toArray(gradient), toArray(cast(right, dtype(gradient))), `gradient ${i}`);
        }
      }
    });
  });
}

for (const rows of [
  [40, 0, 7, 530, 61, 20, 3],
  [5, 130, 9],
  [3, 2],
]) {
  test(`bfloat16 rows ${rows.join(", ")}: products that reach into the rows of neighbours leave them alone`, () => {
    scope(() => {
      // Every other expert's rows are a hundred times as large, so that what leaks is seen.
      const narrow_ = layerOf(rows, "bfloat16");
      let first = 0;
      for (const [expert, count] of rows.entries()) {
        mulScalar_(narrow(narrow_.x_RD, 0, first, count), 100 ** (expert % 2));
        first += count;
      }
      const wide = (t: Tensor): Tensor => cast(t, "float64");
      const exact = {
        ...narrow_,
        x_RD: wide(narrow_.x_RD),
        gateUp: narrow_.gateUp.map(wide),
        down: narrow_.down.map(wide),
      };
      const dy = random([first, WIDTH], "bfloat16");
      const [ours, theirs] = [asLeaves(narrow_), asLeaves(exact)];
      for (const weight of weightsOf(ours)) setGrad(weight, zeros(shape(weight), "float32"));
      const [y, expected] = withGrad(() => [together(ours), together(theirs)]);
      backward([y], [dy]);
      backward([expected], [wide(dy)]);
      assert.deepEqual(toArray(together(narrow_)), toArray(y));
      const near = (actual: Tensor, right: Tensor, name: string): void => {
        const [values, exactly] = [toArray(wide(actual)), toArray(right)];
        const most = Math.max(...exactly.map(Math.abs));
        values.forEach((value, i) =>
          assert.ok(Math.abs(value - exactly[i]) <= 0.03 * most, `${name} ${i}: ${value}, not ${exactly[i]}`),
        );
      };
      const [dx, exactDx] = [ours.x_RD, theirs.x_RD].map(takeGrad) as Tensor[];
      const gradients = [ours, theirs].map((layer) => weightsOf(layer).map(takeGrad));
      first = 0;
      for (const [expert, count] of rows.entries()) {
        if (count === 0) continue;
        const of = (t: Tensor): Tensor => narrow(t, 0, first, count);
        near(of(y), of(expected), `expert ${expert}, output`);
        near(of(dx), of(exactDx), `expert ${expert}, gradient of rows`);
        for (const i of [expert, rows.length + expert])
          near(gradients[0][i] as Tensor, gradients[1][i] as Tensor, `gradient of weight ${i}`);
        first += count;
      }
    });
  });
}

test("products become sums or are added to them, and those of experts without rows count as zeros, whatever they hold", () => {
  scope(() => {
    // Matrices that end within a chunk, at one, and within a vector.
    for (const [height, width] of [
      [70, 60],
      [64, 64],
      [3, 5],
    ]) {
      const made = cast(random([3, height, width], "float32"), "bfloat16");
      fill_(narrow(made, 0, 1, 1), Number.NaN);
      const before = random([3, height, width], "float32");
      const clean = cast(made, "float32");
      fill_(narrow(clean, 0, 1, 1), 0);
      for (const adds of [false, true]) {
        const sums = add(before, zeros([3, height, width], "float32"));
        takeProducts_(sums, made, countsOf([2, 0, 7]), adds);
        assert.deepEqual(toArray(sums), toArray(adds ? add(before, clean) : clean), `${height} x ${width}, ${adds}`);
      }
    }
    const sums = zeros([2, 3, 4], "float32");
    assert.throws(
      () => takeProducts_(sums, cast(zeros([2, 4, 3], "float32"), "bfloat16"), countsOf([1, 1]), true),
      /do not belong together/,
    );
  });
});

test("rows and weights that do not belong together are refused", () => {
  scope(() => {
    const { x_RD, gateUp, down } = layerOf([2, 3], "float32");
    assert.throws(() => expertsOnRows(x_RD, gateUp, down, [2, 4]), /there are 5 rows, and the experts have 6/);
    assert.throws(() => expertsOnRows(x_RD, gateUp, down.slice(1), [2, 3]), /each expert needs its matrices/);
    assert.throws(() => expertsOnRows(x_RD, gateUp, down, [2, 3], { kept: [x_RD] }), /four tensors keep rows, not 1/);
    assert.throws(
      () => expertGradients_(down, x_RD, x_RD, countsOf([2, 3]), null, 1, false, true),
      /there are 2 experts/,
    );
  });
});
