// Every type against gguf-py, bit for bit: random blocks with scales of every size, see test/golden/make_gguf.py.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cast, select } from "../../torch/ops.js";
import { free, keep, scope } from "../../torch/scope.js";
import { fromArray, mapFile } from "../../torch/tensor.js";
import { openSafetensors, readEntry } from "../safetensors/file.js";
import { sameBits } from "../verify.js";
import { dequantize } from "./dequantize.js";
import { readHeader } from "./header.js";
import { golden } from "./testing-gguf.js";
import { TYPES } from "./types.js";

test("every type has the bits that gguf-py gives it", () => {
  const path = golden("types.gguf");
  const { tensors } = readHeader(path);
  assert.deepEqual(
    [...tensors.values()].map(({ type }) => type.name).sort(),
    Object.values(TYPES)
      .map(({ name }) => name)
      .sort(),
  );
  const expected = openSafetensors(golden("types.safetensors"));
  const mapping = keep(mapFile(path));
  for (const { name, type, shape, begin, end } of tensors.values()) {
    assert.deepEqual(shape, [2, 256]);
    scope(() => {
      const read = type.plain
        ? cast(readEntry(mapping, { name, dtype: type.plain, shape, begin, end }), "float32")
        : dequantize(mapping, { begin, end }, type, shape);
      assert.ok(sameBits(read, expected.read(name)), name);
    });
  }
  free(mapping);
  expected.close();
});

test("a tensor of many blocks is the same as its parts", () =>
  scope(() => {
    const [blocks, { bytes, elements }] = [20_000, TYPES[8]];
    const file = fromArray(
      Uint8Array.from({ length: blocks * bytes }, (_, i) => (i % bytes === 1 ? 44 : i * 37)),
      [blocks * bytes],
      "uint8",
    );
    const whole = dequantize(file, { begin: 0, end: blocks * bytes }, TYPES[8], [blocks, elements]);
    for (const block of [0, 8191, 8192, 16_384, 19_999]) {
      const part = dequantize(file, { begin: block * bytes, end: (block + 1) * bytes }, TYPES[8], [elements]);
      assert.ok(sameBits(select(whole, 0, block), part), `${block}`);
    }
  }));
