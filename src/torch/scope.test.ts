// Every operation on a tensor that is alive, freed, moved out of its scope or kept: allowed or refused.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, grad, leaf, takeGrad, withGrad } from "./autograd.js";
import { ledger, resetPeak } from "./memory.js";
import { add, mul, normal_, sum } from "./ops.js";
import { generatorState, seedFor, setGeneratorState, setSeed } from "./random.js";
import { free, isAlive, keep, scope } from "./scope.js";
import { byteSize, full, item, readBytes, shape, toArray, writeBytes, zeros } from "./tensor.js";

test("a scope frees what it made and hands on what it returns", () => {
  const before = ledger();
  const outer = scope(() => {
    const made = zeros([256], "float32");
    const returned = scope(() => ({ sum: add(made, made), list: [zeros([2], "int32")], rows: 5 }));
    assert.ok(isAlive(returned.sum) && isAlive(returned.list[0]));
    assert.equal(returned.rows, 5);
    return returned.sum;
  });
  assert.equal(ledger().tensors, before.tensors + 1);
  assert.equal(ledger().liveBytes, before.liveBytes + 1024);
  free(outer);
  assert.deepEqual(
    [ledger().tensors, ledger().blocks, ledger().liveBytes],
    [before.tensors, before.blocks, before.liveBytes],
  );
});

test("a stale handle is refused everywhere, also after its slot was used again", () => {
  const stale = zeros([2], "float32");
  free(stale);
  const fresh = zeros([2], "float32");
  const uses = [
    () => shape(stale),
    () => toArray(stale),
    () => byteSize(stale),
    () => add(stale, fresh),
    () => free(stale),
    () => keep(stale),
    () => leaf(stale),
    () => readBytes(stale, 0, new Uint8Array(4)),
    () => item(stale),
  ];
  for (const use of uses) assert.throws(use, /tensor #\d+ was already freed/);
  assert.throws(() => shape(7 as never), /not a tensor handle/);
  free(fresh);
});

test("a kept tensor outlives its scope; an error inside frees the rest", () => {
  const before = ledger().tensors;
  let kept = 0 as never;
  assert.throws(
    () =>
      scope(() => {
        kept = keep(full([3], 2, "float32")) as never;
        zeros([4], "float32");
        throw new Error("inside");
      }),
    /inside/,
  );
  assert.equal(ledger().tensors, before + 1);
  assert.deepEqual(toArray(kept), [2, 2, 2]);
  free(kept);
});

test("a scope refuses a promise", () => {
  assert.throws(() => scope(async () => zeros([1], "float32")), /must be synchronous/);
});

test("the ledger counts live and peak bytes exactly", () => {
  const start = ledger().liveBytes;
  resetPeak();
  scope(() => {
    const a = zeros([1000], "float64");
    scope(() => {
      add(a, a);
    });
    assert.equal(ledger().liveBytes - start, 8000);
  });
  assert.equal(ledger().peakBytes - start, 16000);
});

test("raw bytes stay inside the tensor", () => {
  scope(() => {
    const t = zeros([2], "float32");
    writeBytes(t, 4, new Uint8Array(new Float32Array([1.5]).buffer));
    assert.deepEqual(toArray(t), [0, 1.5]);
    assert.throws(() => writeBytes(t, 6, new Uint8Array(4)), /outside the tensor/);
    assert.throws(() => readBytes(t, -1, new Uint8Array(4)), /outside the tensor/);
  });
});

test("backward adds to the buffer of a leaf, grad returns, and no graph survives", () => {
  const before = ledger().blocks;
  scope(() => {
    const data = full([3], 2, "bfloat16");
    const buffer = full([3], 0.001, "float32");
    for (let i = 0; i < 2; i++) {
      scope(() => {
        const x = leaf(data, buffer);
        const y = withGrad(() => sum(mul(x, x)));
        backward([y], [full([], 1, "bfloat16")]);
      });
    }
    for (const value of toArray(buffer)) assert.ok(Math.abs(value - 8.001) < 1e-6, `${value}`);
    const x = leaf(data);
    const y = withGrad(() => sum(mul(x, x)));
    assert.deepEqual(toArray(grad([y], [x], [full([], 1, "bfloat16")])[0] ?? x), [4, 4, 4]);
    const z = withGrad(() => sum(mul(x, x)));
    backward([z], [full([], 1, "bfloat16")]);
    assert.deepEqual(toArray(takeGrad(x) ?? data), [4, 4, 4]);
    assert.equal(takeGrad(x), null);
  });
  assert.equal(ledger().blocks, before);
});

test("seeds and generator state repeat a draw", () => {
  scope(() => {
    setSeed(seedFor(1, 2, 3));
    const state = generatorState();
    const first = toArray(normal_(zeros([8], "float32"), 0, 1));
    setGeneratorState(state);
    assert.deepEqual(toArray(normal_(zeros([8], "float32"), 0, 1)), first);
    setSeed(seedFor(1, 2, 4));
    assert.notDeepEqual(toArray(normal_(zeros([8], "float32"), 0, 1)), first);
  });
  const seeds = new Set(Array.from({ length: 5000 }, (_, i) => seedFor(42, i % 100, Math.floor(i / 100))));
  assert.equal(seeds.size, 5000);
});
