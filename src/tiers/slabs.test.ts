// Tensors side by side in slabs: none overlaps another, none is cut, and little is left over.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger } from "../torch/memory.js";
import { fill_ } from "../torch/ops.js";
import { free } from "../torch/scope.js";
import { type DType, empty, toArray } from "../torch/tensor.js";
import { layOut, makeRoom } from "./slabs.js";

const of = (shape: number[], dtype: DType = "bfloat16", name = shape.join()) => ({ name, shape, dtype });

test("a model of 14.3 billion parameters takes a few percent more than its bytes, in powers of two", () => {
  const block = [
    [60, 2816, 2048],
    [60, 2048, 1408],
    [2048, 2048],
    [2048, 2048],
    [2048, 2048],
    [2048, 2048],
    [5632, 2048],
    [5632, 2048],
    [2048],
  ];
  const wanted = [of([151_936, 2048]), ...Array.from({ length: 24 }, () => block.map((shape) => of(shape))).flat(), of([151_936, 2048])];
  const { slabs, places } = layOut(wanted);
  const bytes = wanted.reduce((sum, { shape }) => sum + 2 * shape.reduce((product, each) => product * each), 0);
  const held = slabs.reduce((sum, each) => sum + each);
  assert.ok(
    slabs.every((each) => Number.isInteger(Math.log2(each))),
    slabs.join(),
  );
  assert.ok(held < 1.15 * bytes, `${held} for ${bytes}`);
  for (const [i, { slab, offset }] of places.entries()) {
    const end = offset + 2 * wanted[i].shape.reduce((product, each) => product * each);
    const next = places[i + 1];
    assert.ok(end <= (next?.slab === slab ? next.offset : slabs[slab]));
  }
});

test("tensors of several types and sizes keep their own values; all is released", () => {
  const before = ledger();
  const wanted = [
    of([3, 5]),
    of([7], "uint8"),
    of([1], "float32", "one"),
    of([0], "float32", "none"),
    of([130, 2], "float32"),
    of([4], "int8"),
  ];
  const { slabs, tensors } = makeRoom(wanted, (bytes) => empty([bytes], "uint8"));
  [...tensors.values()].forEach((tensor, i) => fill_(tensor, i));
  [...tensors.values()].forEach((tensor, i) => assert.ok(toArray(tensor).every((value) => value === i)));
  assert.deepEqual(
    [...tensors.keys()],
    wanted.map(({ name }) => name),
  );
  free(...tensors.values(), ...slabs);
  assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
});
