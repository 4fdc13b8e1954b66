// Which rows a bench has, and what it refuses.
import assert from "node:assert/strict";
import { test } from "node:test";

import { casesOf, networkKey } from "./cases.js";
import { type BenchSettings, resolveBench } from "./settings.js";

const rows = (given: Partial<BenchSettings>): string[] =>
  casesOf(resolveBench({ model: "m", ...given })).map((each) => {
    const { method, layers, settings } = each;
    return [layers, settings.max_length, method, networkKey(each)].filter((part) => part !== null).join(" ");
  });

test("by default reversible runs with momentum, and the others as everyone runs them", () => {
  assert.deepEqual(rows({}), [
    "512 store ordinary",
    "512 checkpoint ordinary",
    "512 checkpoint-offload ordinary",
    "512 reversible momentum -1/256",
  ]);
});

test("lists multiply; rows of one network stand together, and gamma multiplies only where it is one", () => {
  assert.deepEqual(
    rows({ methods: ["store", "reversible"], coupling: ["additive", "momentum", "ordinary"], gamma: [0.5, -1] }),
    [
      "512 store additive",
      "512 reversible additive",
      "512 store momentum 0.5",
      "512 reversible momentum 0.5",
      "512 store momentum -1",
      "512 reversible momentum -1",
      "512 store ordinary",
    ],
  );
  assert.deepEqual(rows({ methods: ["checkpoint"], layers: [4, 2], max_length: [64, 32] }), [
    "4 64 checkpoint ordinary",
    "4 32 checkpoint ordinary",
    "2 64 checkpoint ordinary",
    "2 32 checkpoint ordinary",
  ]);
});

test("a row's settings are those of train", () => {
  const [{ settings }] = casesOf(
    resolveBench({
      model: "m",
      methods: ["reversible"],
      gamma: [-0.5],
      stream: "int64",
      threads: 1,
      weights_dtype: "float32",
      seed: 7,
    }),
  );
  const { method, coupling, gamma, stream, threads, weights_dtype, seed, train_file } = settings;
  assert.deepEqual(
    { method, coupling, gamma, stream, threads, weights_dtype, seed, train_file },
    {
      ...{ method: "reversible", coupling: "momentum", gamma: -0.5, stream: "int64" },
      ...{ threads: 1, weights_dtype: "float32", seed: 7, train_file: "-" },
    },
  );
});

test("settings without effect and methods without a row are refused with the way out", () => {
  for (const [given, pattern] of [
    [
      { coupling: ["ordinary"] },
      /methods .*: reversible has no row with --coupling .*ordinary.*: the ordinary network cannot be reversed\. Remove/,
    ],
    [{ methods: ["reversible"], coupling: ["ordinary", "momentum"] }, /coupling.*: ordinary has no row with --methods/],
    [
      { methods: ["store"], gamma: [0.5] },
      /--gamma .* has no effect: no row has coupling momentum or bdia\. Remove gamma, or/,
    ],
    [{ coupling: ["additive"], gamma: [0.5] }, /--gamma .* has no effect/],
    [{ methods: ["store"], stream: "int64" }, /--stream int64 has no effect: only the ordinary network/],
    [{ svg: "x.svg" }, /--svg x\.svg has nothing to draw: .* layers 4,24,48\.$/],
    [{ svg: "x.svg", layers: [4] }, /--svg x\.svg has nothing to draw/],
    [
      { memory_limit: "1GiB", device: "cuda" },
      /--memory-limit 1GiB has no effect: it limits the cpu, not --device cuda/,
    ],
    [{ memory_limit: "0GiB" }, /--memory-limit 0GiB leaves no memory/],
    [{ memory_limit: "lots" }, /--memory-limit lots is not possible \(expected a size such as 8GiB or 500MB\)/],
    [{ steps: 0 }, /--steps 0 is not possible/],
    [{ method: "store" }, /--method is unknown\. Use methods\./],
  ] as [object, RegExp][]) {
    assert.throws(() => resolveBench({ model: "m", ...given }), pattern);
  }
});
