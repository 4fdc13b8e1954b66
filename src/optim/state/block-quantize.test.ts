// Block-wise 8-bit state: every edge between codes, blocks of every size, and AdamW on it over several tiles.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../../torch/scope.js";
import { dtype, fromArray, toArray, zeros } from "../../torch/tensor.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { adamw } from "../adamw.js";
import { adamw8bit } from "../adamw8bit.js";
import { BLOCK_ELEMENTS, BlockQuantizer, dynamicMap } from "./block-quantize.js";
import { factsOf, numbers, stepped } from "../testing-rules.js";

const neighbour = (value: number, by: number): number => {
  const floats = Float32Array.of(value);
  new Int32Array(floats.buffer)[0] += by;
  return floats[0];
};

for (const signed of [true, false]) {
  test(`${signed ? "signed" : "unsigned"}: the code is that of the nearest value, at every edge and beside it`, () => {
    const map = dynamicMap(signed);
    const edges = map.slice(1).map((value, i) => Math.fround((value + map[i]) / 2));
    const values = [
      ...map,
      ...edges.flatMap((edge) => [edge, neighbour(edge, 1), neighbour(edge, -1)]),
      ...numbers(20_000, 1).map((value, i) => (signed ? value : Math.abs(value)) * 10 ** -(i % 9)),
    ].map(Math.fround);
    // Whole blocks that each hold a 1, so that the scale of each is 1.
    const padded = values.flatMap((value, i) => (i % (BLOCK_ELEMENTS - 1) === 0 ? [1, value] : [value]));
    scope(() => {
      const count = padded.length;
      const codes = zeros([count], "uint8", TEST_DEVICE);
      const scales = zeros([Math.ceil(count / BLOCK_ELEMENTS)], "float32", TEST_DEVICE);
      const quantizer = new BlockQuantizer(signed, TEST_DEVICE);
      quantizer.encode(fromArray(padded, [count], "float32", TEST_DEVICE), codes, scales);
      assert.ok(toArray(scales).every((scale) => scale === 1));
      const found = toArray(codes);
      // As bitsandbytes has it: on an edge, the lower one.
      padded.forEach((value, i) => assert.equal(found[i], edges.filter((edge) => edge < value).length, `${value}`));
      assert.deepEqual(
        toArray(quantizer.decode(codes, scales)),
        found.map((code) => map[code]),
      );
    });
  });
}

test("blocks of zeros, of one sign and cut short come back within half a step of their own scale", () => {
  scope(() => {
    const values = [
      ...Array(256).fill(0),
      ...numbers(256, 2).map((x) => 1e-20 * Math.abs(x)),
      ...numbers(77, 3).map((x) => 1e6 * x),
    ];
    const [codes, scales] = [zeros([values.length], "uint8", TEST_DEVICE), zeros([3], "float32", TEST_DEVICE)];
    const quantizer = new BlockQuantizer(true, TEST_DEVICE);
    quantizer.encode(fromArray(values, [values.length], "float32", TEST_DEVICE), codes, scales);
    const back = toArray(quantizer.decode(codes, scales));
    values.forEach((value, i) => {
      const scale = [0, 1e-20, 1e6][Math.floor(i / 256)];
      assert.ok(Math.abs(back[i] - value) <= 0.008 * scale, `${i}: ${value} came back as ${back[i]}`);
    });
    assert.deepEqual(back.slice(0, 256), Array(256).fill(0));
  });
});

test("over several tiles, every element is updated, and nearly as with float32 state", () => {
  const settings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
  scope(() => {
    const size = [1025, 1031];
    const count = size[0] * size[1];
    const [eight, full] = [adamw8bit, adamw].map((make) =>
      stepped(make(settings), zeros(size, "float32"), factsOf(size)),
    );
    assert.equal(dtype(eight.state.m), "uint8");
    for (let step = 1; step <= 3; step++) {
      const gradient = numbers(count, step);
      for (const run of [eight, full]) run.step(gradient, 0.01);
    }
    const [a, b] = [eight, full].map(({ parameter }) => toArray(parameter));
    const squares = (values: number[]): number => values.reduce((total, value) => total + value * value, 0);
    const error = Math.sqrt(squares(a.map((value, i) => value - b[i])) / squares(b));
    assert.ok(error < 0.05, `relative difference ${error}`);
    assert.ok(a.slice(-2000).every((value) => value !== 0));
  });
});
