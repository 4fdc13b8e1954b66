// Every row of the operator table against libtorch's own words, and every kind of argument through the boundary.
import assert from "node:assert/strict";
import { test } from "node:test";

import * as ops from "./ops.js";
import { scope } from "./scope.js";
import { dtype, fromArray, shape, toArray } from "./tensor.js";

const plain = (schema: string): string => schema.replaceAll("SymInt", "int");
const nameOf = (schema: string): string => schema.slice(0, schema.indexOf("("));

test("every operator row has the schema we wrote down", () => {
  for (const row of ops.rows) assert.equal(plain(ops.schemaOf(nameOf(row)) ?? `missing: ${row}`), row);
});

test("rows of newer operators match where the operator exists", () => {
  for (const row of ops.newer) {
    const actual = ops.schemaOf(nameOf(row));
    if (actual !== null) assert.equal(plain(actual), row);
  }
});

test("arguments of every kind are converted", () => {
  scope(() => {
    const a = fromArray([1, 2, 3, 4, 5, 6], [2, 3], "float32");
    assert.deepEqual(toArray(ops.sumDim(a, [1], false)), [6, 15]);
    assert.deepEqual(toArray(ops.cat([a, a], 0)), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(toArray(ops.add(a, a, 0.5)), [1.5, 3, 4.5, 6, 7.5, 9]);
    assert.equal(dtype(ops.cast(a, "bfloat16")), "bfloat16");
    assert.deepEqual(ops.unbind(a).map(toArray), [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    assert.deepEqual(shape(ops.linear(a, a, null)), [2, 2]);
    assert.equal(ops.equal(a, a), true);
    const integers = fromArray([-5, 6], [2], "int32");
    assert.equal(dtype(ops.mulScalar(integers, 3)), "int32");
    assert.equal(dtype(ops.mulScalar(integers, 0.5)), "float32");
    assert.deepEqual(toArray(ops.shiftRight(integers, 1)), [-3, 3]);
    assert.equal(ops.add_(a, a), a, "an in-place operator returns its own handle");
  });
});

test("what libtorch refuses arrives with the operator, the dtypes and the shapes", () => {
  scope(() => {
    const a = fromArray([1, 2, 3, 4, 5, 6], [2, 3], "float32");
    assert.throws(() => ops.mm(a, a), /^Error: aten::mm\(float32\[2,3\], float32\[2,3\]\): .*cannot be multiplied/);
    assert.throws(() => ops.mm(a, undefined as never), /aten::mm\(.*\): argument "mat2" is missing/);
    assert.throws(() => ops.mm(a, "b" as never), /argument "mat2": expected a tensor/);
    assert.throws(() => ops.narrow(a, 0, 0.5, 1), /argument "start": expected a whole number/);
    assert.throws(() => ops.cast(a, "float31" as never), /unknown dtype "float31"/);
  });
});
