// Tensors side by side in slabs: none overlaps another, none is cut, and little is left over.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger } from "../torch/memory.js";
import { fill_ } from "../torch/ops.js";
import { free } from "../torch/scope.js";
import { type DType, DTYPES, empty, toArray } from "../torch/tensor.js";
import { layOut, allocateSlabs } from "./slabs.js";

const of = (shape: number[], dtype: DType = "bfloat16", name = shape.join()) => ({ name, shape, dtype });

/** [experts, 2F, D], [experts, D, F] and four square matrices a layer, between embedding and head. */
const GEOMETRIES = {
  "Qwen1.5-MoE-A2.7B": { layers: 24, experts: 60, width: 2048, inner: 1408, vocabulary: 151_936 },
  "Qwen3-30B-A3B": { layers: 48, experts: 128, width: 2048, inner: 768, vocabulary: 151_936 },
  "OLMoE-1B-7B": { layers: 16, experts: 64, width: 2048, inner: 1024, vocabulary: 50_304 },
  "Mixtral-8x7B": { layers: 32, experts: 8, width: 4096, inner: 14_336, vocabulary: 32_000 },
};
for (const [name, { layers, experts, width, inner, vocabulary }] of Object.entries(GEOMETRIES)) {
  for (const dtype of ["bfloat16", "float32"] as const) {
    test(`${name}, ${dtype}: slabs are powers of two and little larger than what they hold`, () => {
      const block = [
        [experts, 2 * inner, width],
        [experts, width, inner],
        ...Array.from({ length: 4 }, () => [width, width]),
        [width],
      ];
      const end = [vocabulary, width];
      const wanted = [end, ...Array.from({ length: layers }, () => block).flat(), end].map((shape) => of(shape, dtype));
      const { slabs, places } = layOut(wanted);
      const bytesOf = (shape: readonly number[]): number =>
        DTYPES[dtype] * shape.reduce((product, each) => product * each);
      const bytes = wanted.reduce((sum, { shape }) => sum + bytesOf(shape), 0);
      const held = slabs.reduce((sum, each) => sum + each);
      assert.ok(
        slabs.every((each) => Number.isInteger(Math.log2(each))),
        slabs.join(),
      );
      assert.ok(held < 1.08 * bytes, `${held} for ${bytes}: ${(held / bytes).toFixed(3)}`);
      // By slab, in order of place: none reaches into the next.
      for (const [slab, size] of slabs.entries()) {
        const here = places.flatMap((place, i) =>
          place.slab === slab ? [{ from: place.offset, to: place.offset + bytesOf(wanted[i].shape) }] : [],
        );
        here.sort((a, b) => a.from - b.from).forEach(({ to }, i) => assert.ok(to <= (here[i + 1]?.from ?? size)));
      }
    });
  }
}

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
  const { slabs, tensors } = allocateSlabs(wanted, (bytes) => empty([bytes], "uint8"));
  [...tensors.values()].forEach((tensor, i) => fill_(tensor, i));
  [...tensors.values()].forEach((tensor, i) => assert.ok(toArray(tensor).every((value) => value === i)));
  assert.deepEqual(
    [...tensors.keys()],
    wanted.map(({ name }) => name),
  );
  free(...tensors.values(), ...slabs);
  assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
});
