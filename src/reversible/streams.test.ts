// The integer grid: rounding, scaling with stored bits and back, range; and every coupling's inverse on toy branches.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cast, mulScalar, normal_, random_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { byteSize, dtype, fromArray, toArray, zeros } from "../torch/tensor.js";
import { floatStreams, gridStreams, packBits, storedBits, unpackBits } from "./streams.js";

const grid = gridStreams("int32", 16);

test("a float is rounded to the nearest multiple of 2^-16, ties to even", () => {
  scope(() => {
    const unit = 2 ** -16;
    const stream = grid.fromFloat(
      fromArray([0, 1, -1.5, 0.4 * unit, 0.6 * unit, 1.5 * unit, -2.5 * unit], [7], "float32"),
    );
    assert.equal(dtype(stream), "int32");
    assert.deepEqual(toArray(stream), [0, 65536, -98304, 0, 1, 2, -2]);
    assert.deepEqual(toArray(grid.toFloat(stream)), [0, 1, -1.5, 0, unit, 2 * unit, -2 * unit]);
  });
});

test("scaling drops m low bits towards minus infinity, and the bits bring every one back", () => {
  scope(() => {
    setSeed(1);
    const stream = random_(zeros([64, 16], "int32"), -(2 ** 30), 2 ** 30);
    const values = toArray(stream);
    for (const gamma of [-1, 0.5, -0.5, 0.25, -0.25, 0.125, -0.125]) {
      const bits = storedBits(gamma);
      const scaled = grid.addScaled_(zeros([64, 16], "int32"), stream, gamma);
      assert.deepEqual(
        toArray(scaled),
        values.map((value) => (gamma < 0 ? -(value >> bits) : value >> bits) + 0),
        `gamma ${gamma}`,
      );
      const packed = grid.droppedBits(stream, gamma);
      assert.equal(packed === null ? 0 : byteSize(packed), (1024 * (bits === 3 ? 4 : bits)) / 8);
      assert.deepEqual(toArray(grid.unscale_(scaled, packed, gamma)), values);
    }
  });
});

test("packing is lossless for every width", () => {
  scope(() => {
    for (const bits of [1, 2, 3, 4]) {
      const values = Array.from({ length: 64 }, (_, i) => (i * 7) % 2 ** bits);
      const packed = packBits(
        fromArray(
          values.map((value) => value - 256),
          [8, 8],
          "int32",
        ),
        bits,
      );
      assert.deepEqual(toArray(unpackBits(packed, bits, [64], "int32")), values);
    }
  });
});

test("a value that leaves the grid, or is no number, is refused with the way out", () => {
  scope(() => {
    assert.throws(
      () => grid.fromFloat(fromArray([20_000], [1], "float32")),
      /2\.00e\+4 leaves the grid \(limit 16384\).*--stream-fraction-bits/,
    );
    assert.throws(() => grid.fromFloat(fromArray([1, Number.NaN], [2], "float32")), /not a finite number/);
    assert.throws(() => grid.fromFloat(fromArray([Number.NEGATIVE_INFINITY], [1], "float32")), /not a finite number/);
    assert.throws(
      () => grid.check(fromArray([2 ** 30 + 5], [1], "int32"), "block 3"),
      /block 3: a stream value of 1\.64e\+4/,
    );
    grid.check(fromArray([2 ** 30 - 1, -(2 ** 30) + 1], [2], "int32"), "block 3");
    assert.throws(
      () => floatStreams("float32").check(fromArray([Number.NaN], [1], "float32"), "block 1"),
      /block 1: .*not a finite/,
    );
    assert.throws(() => storedBits(0.3), /not a power of two/);
  });
});

test("int64 keeps 32 fractional bits", () => {
  scope(() => {
    const fine = gridStreams("int64", 32);
    const stream = fine.fromFloat(mulScalar(cast(normal_(zeros([32], "float32"), 0, 1), "float64"), 1));
    assert.equal(dtype(stream), "int64");
    assert.deepEqual(toArray(fine.fromFloat(fromArray([2 ** -32, -(2 ** -31)], [2], "float64"))), [1, -2]);
    const scaled = fine.addScaled_(zeros([32], "int64"), stream, -0.25);
    assert.deepEqual(toArray(fine.unscale_(scaled, fine.droppedBits(stream, -0.25), -0.25)), toArray(stream));
  });
});
