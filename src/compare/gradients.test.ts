// Gradients through a file: the same ones differ by nothing, others by the relative norm that arithmetic says.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import type { Update } from "../optim/optimizer.js";
import { openWeight } from "../optim/weights/weight.js";
import { normal_ } from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { scope } from "../torch/scope.js";
import { fromArray, shape, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { compareGradients, writeGradients } from "./gradients.js";

const UPDATE: Update = { step: 1, learningRate: 1 };

function file(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-gradients-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, "gradients");
}

function show(witness: ReturnType<typeof writeGradients>, gradients: Tensor[]): void {
  try {
    for (const gradient of gradients) {
      const facts = { name: "any", shape: shape(gradient), kind: "vector", matrices: 1, rows: 1, columns: 1 } as const;
      witness.optimizer.rule(facts).update(openWeight(gradient, { seed: 0 }), gradient, {}, UPDATE);
    }
  } finally {
    witness.close();
  }
}

test("the relative error is the norm of the difference over the norm of what is in the file", (t) => {
  scope(() => {
    const path = file(t);
    show(writeGradients(path), [fromArray([3, 0, 0], [3], "float32"), fromArray([0, 4], [1, 2], "float32")]);
    const same = compareGradients(path);
    show(same, [fromArray([3, 0, 0], [3], "float32"), fromArray([0, 4], [1, 2], "float32")]);
    assert.equal(same.relativeError(), 0);
    const other = compareGradients(path);
    show(other, [fromArray([3, 0, 1], [3], "float32"), fromArray([2, 6], [1, 2], "float32")]);
    assert.equal(other.relativeError(), 3 / 5);
  });
});

test("tensors of several tiles come back to the bit and are not changed", (t) => {
  scope(() => {
    const path = file(t);
    setSeed(3);
    const gradient = normal_(zeros([3, 400_001], "float32"), 0, 1);
    const before = toArray(gradient);
    show(writeGradients(path), [gradient]);
    const same = compareGradients(path);
    show(same, [gradient]);
    assert.equal(same.relativeError(), 0);
    assert.deepEqual(toArray(gradient), before);
    truncateSync(path, 4_000_000);
    assert.throws(() => show(compareGradients(path), [gradient]), /ends before the gradients do/);
  });
});
