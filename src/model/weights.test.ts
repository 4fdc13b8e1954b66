// Weights that cannot all be read leave nothing behind, and hand on why.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger } from "../torch/memory.js";
import { free } from "../torch/scope.js";
import { zeros } from "../torch/tensor.js";
import type { ParameterSpec } from "./architecture.js";
import { OpenWeights } from "./weights.js";

const dense = (name: string): ParameterSpec => ({ name, shape: [4, 3], init: "normal" });
const routed = (name: string): ParameterSpec => ({ ...dense(name), shape: [2, 4, 3], experts: { parts: ["w"] } });

for (const [what, specs, unreadable] of [
  ["the first of a dense block", [dense("a"), dense("b")], "a"],
  ["the last of a routed block", [dense("a"), routed("experts"), dense("b")], "b"],
  ["experts", [dense("a"), routed("experts")], "experts"],
] as const) {
  test(`${what} cannot be read: nothing stays`, () => {
    const stored = Object.fromEntries(specs.map(({ name, shape }) => [name, zeros([...shape], "bfloat16")]));
    const before = ledger();
    const read = (name: string) => {
      if (name === unreadable) throw new Error(`${name} is gone`);
      return stored[name];
    };
    assert.throws(() => new OpenWeights(read, [...specs], "float32"), new Error(`${unreadable} is gone`));
    assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
    free(...Object.values(stored));
  });
}
