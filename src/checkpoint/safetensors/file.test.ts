// Reading: values, alignment, lifetimes, and a sentence of its own for every way in which a file can be wrong.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { ledger } from "../../torch/memory.js";
import { fill_ } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { dtype, shape, toArray } from "../../torch/tensor.js";
import { openSafetensors } from "./file.js";
import { withFolder, writeRaw } from "../testing-model.js";

const bytesOf = (...values: number[]): Buffer => Buffer.from(new Float32Array(values).buffer);
const entry = (dtype: unknown, shape: unknown, begin: unknown, end: unknown): object => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

test("values, shapes, metadata and places are read; opening and reading a view allocate nothing", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    // The length of the header decides whether the data is aligned to 4 bytes.
    for (const padding of [0, 1, 2, 3]) {
      const header = `${JSON.stringify({
        __metadata__: { format: "pt" },
        b: entry("F32", [2, 2], 3, 19),
        a: entry("U8", [3], 0, 3),
        scalar: entry("I64", [], 19, 27),
        none: entry("F32", [0, 5], 19, 19),
      })}${" ".repeat(padding)}`;
      const number = Buffer.alloc(8);
      number.writeBigInt64LE(-5n);
      writeRaw(path, header, Buffer.concat([Buffer.from([7, 8, 9]), bytesOf(1, 2, 3, 4.5), number]));
      const before = ledger();
      const file = openSafetensors(path);
      scope(() => {
        assert.deepEqual(file.metadata, { format: "pt" });
        const begin = 8 + header.length + 3;
        assert.deepEqual(file.entries.get("b"), { name: "b", dtype: "float32", shape: [2, 2], begin, end: begin + 16 });
        const b = file.read("b");
        assert.equal(
          ledger().liveBytes - before.liveBytes,
          begin % 4 === 0 ? 0 : 16,
          "a copy only where alignment asks for one",
        );
        assert.deepEqual(
          [toArray(b), shape(b)],
          [
            [1, 2, 3, 4.5],
            [2, 2],
          ],
        );
        assert.deepEqual(toArray(file.read("a")), [7, 8, 9]);
        assert.deepEqual([toArray(file.read("scalar")), shape(file.read("scalar"))], [[-5], []]);
        assert.deepEqual(shape(file.read("none")), [0, 5]);
      });
      file.close();
      assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
    }
  }));

test("a tensor outlives its file, and writing to it leaves the file alone", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    writeRaw(path, { x: entry("F32", [2], 0, 8) }, bytesOf(1, 2));
    const before = readFileSync(path);
    const file = openSafetensors(path);
    const x = file.read("x");
    file.close();
    fill_(x, 9);
    assert.deepEqual(toArray(x), [9, 9]);
    free(x);
    assert.deepEqual(readFileSync(path), before);
  }));

test("every dtype keeps its width", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    const kinds = {
      F64: "float64",
      F32: "float32",
      F16: "float16",
      BF16: "bfloat16",
      I64: "int64",
      I32: "int32",
      I16: "int16",
      I8: "int8",
      U8: "uint8",
      BOOL: "bool",
    };
    for (const [label, expected] of Object.entries(kinds)) {
      const width = Number(/\d+$/.exec(label)?.[0] ?? 8) / 8;
      writeRaw(path, { x: entry(label, [3], 0, 3 * width) }, new Uint8Array(3 * width));
      const file = openSafetensors(path);
      scope(() => {
        assert.equal(dtype(file.read("x")), expected);
        assert.deepEqual(toArray(file.read("x")), [0, 0, 0]);
      });
      file.close();
    }
  }));

test("each fault has its own sentence", () =>
  withFolder((folder) => {
    const path = join(folder, "bad.safetensors");
    const refuses = (pattern: RegExp): void =>
      assert.throws(
        () => openSafetensors(path),
        (failure: Error) => {
          assert.ok(failure instanceof UserError, String(failure));
          assert.ok(failure.message.startsWith(path), failure.message);
          assert.match(failure.message, pattern);
          return true;
        },
      );
    refuses(/no such file/);
    writeFileSync(path, "short");
    refuses(/has 5 bytes \(expected at least 8/);
    writeFileSync(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    refuses(/Git LFS pointer/);
    writeFileSync(path, Buffer.concat([Buffer.from([200, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]));
    refuses(/header takes 200 bytes .* only 2 more/);

    const headers: [unknown, RegExp][] = [
      ["{oops", /header is not JSON/],
      ["[1]", /header is \[1\] \(expected an object/],
      ["null", /header is null/],
      [{ __metadata__: { a: 1 } }, /__metadata__ is \{"a":1\} \(expected an object of strings\)/],
      [
        { x: entry("F8_E5M2", [8], 0, 8) },
        /x: dtype "F8_E5M2" is not supported \(expected F64, F32, .*Quantised weights/,
      ],
      [{ x: 3 }, /x: dtype missing is not supported/],
      [{ x: entry("F32", [-2], 0, 8) }, /x: shape is \[-2\] \(expected a list of whole numbers/],
      [{ x: entry("F32", [0.5], 0, 8) }, /x: shape is \[0.5\]/],
      [{ x: entry("F32", "2", 0, 8) }, /x: shape is "2"/],
      [{ x: entry("F32", [2], 0.5, 8) }, /x: data_offsets is \[0.5,8\] \(expected two whole numbers/],
      [{ x: { dtype: "F32", shape: [2] } }, /x: data_offsets is missing/],
      [{ x: entry("F32", [2], 8, 0) }, /x: data_offsets \[8, 0\] end before they begin/],
      [
        { x: entry("F32", [2], 0, 16) },
        /x: the header gives it 16 bytes, but F32 \[2\] takes 8\. The header lies about offsets/,
      ],
      [
        { x: entry("F32", [2], 0, 8), y: entry("F32", [2], 8, 16), z: entry("F32", [1], 16, 20) },
        /cut off: its header describes 20 bytes of tensors, found 16/,
      ],
      [
        { x: entry("F32", [2], 0, 8), y: entry("F32", [2], 4, 12), z: entry("F32", [1], 12, 16) },
        /y begins at byte 4 .* ends at 8 \(expected no overlap\)\. The header lies/,
      ],
      [
        { x: entry("F32", [1], 0, 4), y: entry("F32", [2], 8, 16) },
        /y begins at byte 8 .* ends at 4 \(expected no gap\)\. The header lies/,
      ],
      [{ x: entry("F32", [2], 0, 8) }, /8 bytes follow the last tensor \(expected none\)\. The header lies/],
    ];
    for (const [header, pattern] of headers) {
      writeRaw(path, header, new Uint8Array(16));
      refuses(pattern);
    }
  }));
