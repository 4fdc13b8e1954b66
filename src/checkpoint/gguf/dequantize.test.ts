// Every type against gguf-py, bit for bit: random blocks with scales of every size, see test/golden/make_gguf.py.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { cast } from "../../torch/ops.js";
import { free, keep, scope } from "../../torch/scope.js";
import { mapFile } from "../../torch/tensor.js";
import { openSafetensors, readEntry } from "../safetensors.js";
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
  const bytes = readFileSync(path);
  for (const { name, type, shape, begin, end } of tensors.values()) {
    assert.deepEqual(shape, [2, 256]);
    scope(() => {
      const read = type.plain
        ? cast(readEntry(mapping, { name, dtype: type.plain, shape, begin, end }), "float32")
        : dequantize(bytes.subarray(begin, end), type, shape);
      assert.ok(sameBits(read, expected.read(name)), name);
    });
  }
  free(mapping);
  expected.close();
});
