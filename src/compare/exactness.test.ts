// At 24 blocks and after training, when weights have moved, rebuilding is still exact on the grid, and float streams are
// what they are there for to show. The whole table is `node experiments/exactness.mjs`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { additive } from "../reversible/couplings/additive.js";
import { bdia } from "../reversible/couplings/bdia.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { revffn } from "../reversible/couplings/revffn.js";
import { floatStreams, gridStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { ledger } from "../torch/memory.js";
import { openExperiment } from "./exactness.js";

setThreads(1);

const READING = {
  text: Uint8Array.from({ length: 4096 }, (_, i) => 97 + (((i * i) >> 3) % 26)),
  documents: 2,
  length: 16,
};
const INVERSE = {
  iterations: 3,
  tolerance: 0,
  start: "output",
  damping: 1,
  anderson: false,
  storedHint: true,
} as const;

for (const coupling of [momentum(0.25), momentum(-1 / 256), momentum(-1), bdia(0.25), additive, revffn(INVERSE)]) {
  test(`${coupling.name}: after training, 24 blocks come back to the last bit`, () => {
    const blocksBefore = ledger().blocks;
    const experiment = openExperiment(coupling, 24, READING);
    const losses = experiment.train(5, 3e-3);
    assert.ok(losses[4] < losses[0], `training moves the weights: ${losses}`);
    assert.deepEqual(experiment.measure(gridStreams("int32", 16), "float32"), {
      reconstructionError: 0,
      gradientError: 0,
    });
    experiment.close();
    assert.equal(ledger().blocks, blocksBefore);
  });
}

test("float streams drift with depth, by as much as the inverse divides by gamma", () => {
  const errorAt = (depth: number): number => {
    const experiment = openExperiment(momentum(0.25), depth, READING);
    const found = experiment.measure(floatStreams("float32"), "float32");
    experiment.close();
    return found?.reconstructionError ?? Number.POSITIVE_INFINITY;
  };
  const [shallow, deep] = [4, 8].map(errorAt);
  assert.ok(shallow > 0 && deep > 16 * shallow, `${shallow} at 4 blocks, ${deep} at 8`);
});
