// What holds of every family, on the golden folders of each: rebuilt activations give the gradients of stored ones bit for bit,
// pieces read with a cache give the logits of the whole, what is saved in either layout is loaded again in the same bits, a plan of a
// step is what it takes. That logits and gradients are those of transformers is in src/step/parity.test.ts.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { readConfig } from "../checkpoint/folder.js";
import { loadModel } from "../checkpoint/load.js";
import { saveModel } from "../checkpoint/save.js";
import { folderFiles } from "../checkpoint/source.js";
import { Decoder } from "../generate/decoder.js";
import { fullLogits } from "../generate/testing-network.js";
import { freeModel, type Model } from "../model/model.js";
import type { Network } from "../network/network.js";
import type { Optimizer } from "../optim/optimizer.js";
import { compare, type Point } from "../plan/testing-grid.js";
import { additive } from "../reversible/couplings/additive.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { METHODS } from "../reversible/methods/registry.js";
import { gridStreams } from "../reversible/streams.js";
import { OptimizerStates } from "../step/optimizer-states.js";
import { trainStep } from "../step/step.js";
import { randomBatch } from "../step/testing-batch.js";
import { deviceStore } from "../store/device.js";
import { setThreads } from "../torch/device.js";
import { toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";

setThreads(1);

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const NAMES = readdirSync(GOLDEN).filter(
  (name) => existsSync(join(GOLDEN, name, "golden.safetensors")) && name !== "store-run",
);
const open = (name: string): Model => loadModel(join(GOLDEN, name), { weightsDtype: "float32", device: TEST_DEVICE });

const networkOf = (model: Model, changes: Partial<Network> = {}): Network => ({
  model,
  coupling: momentum(-1 / 256),
  format: gridStreams("int32", 16),
  computeDtype: "float32",
  device: TEST_DEVICE,
  store: deviceStore(TEST_DEVICE),
  lossTileTokens: 16,
  ...changes,
});

/** Every gradient of a step, in the order they are made. */
function gradientsOf(network: Network, method: keyof typeof METHODS): number[][] {
  const gradients: number[][] = [];
  const looker: Optimizer = {
    name: "looker",
    rule: () => ({ layout: {}, update: (_weight, gradient) => void gradients.push(toArray(gradient)) }),
  };
  const batches = [randomBatch([7, 19, 3], 1, 80), randomBatch([30], 2, 80)];
  const options = { method: METHODS[method], step: 1, learningRate: 0, maxBlockGradNorm: 0, seed: 1 };
  trainStep(network, new OptimizerStates(looker, network.model), batches, options);
  return gradients;
}

for (const name of NAMES) {
  test(`${name}: gradients of rebuilt, recomputed and stored activations have the same bits`, () => {
    const model = open(name);
    for (const coupling of [momentum(-1 / 256), additive]) {
      const network = networkOf(model, { coupling });
      const stored = gradientsOf(network, "store");
      assert.ok(stored.flat().some((value) => value !== 0));
      for (const method of ["reversible", "checkpoint"] as const)
        assert.deepEqual(gradientsOf(network, method), stored, `${coupling.name} ${method}`);
    }
    freeModel(model);
  });

  test(`${name}: logits with a cache are those of the whole sequence`, () => {
    const model = open(name);
    const network = networkOf(model);
    const tokens = Array.from({ length: 14 }, (_, i) => (i * i * 31 + 17 * i + 3) % 80);
    const whole = fullLogits(network, tokens);
    const decoder = new Decoder(network);
    let read = 0;
    for (const length of [5, 1, 1, 6, 1]) {
      const logits = decoder.advance(Int32Array.from(tokens.slice(read, (read += length))));
      const scale = Math.max(...whole[read - 1].map(Math.abs));
      logits.forEach((value, id) =>
        assert.ok(Math.abs(value - whole[read - 1][id]) < 2e-3 * scale, `after ${read} tokens, ${id}: ${value}`),
      );
    }
    decoder.close();
    freeModel(model);
  });

  test(`${name}: what is saved in either layout is loaded in the same bits`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), "revmoe-family-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const model = open(name);
    for (const layout of ["per-expert", "fused"] as const) {
      saveModel(join(folder, layout), model, { source: folderFiles(join(GOLDEN, name)), layout });
      const again = loadModel(join(folder, layout), { weightsDtype: "auto", device: TEST_DEVICE });
      for (const [i, block] of [model.outer, ...model.blocks].entries()) {
        const other = [again.outer, ...again.blocks][i];
        assert.deepEqual(Object.keys(other), Object.keys(block));
        for (const key of Object.keys(block)) assert.deepEqual(toArray(other[key]), toArray(block[key]), key);
      }
      freeModel(again);
    }
    freeModel(model);
  });

  test(`${name}: a step takes what is planned`, () => {
    const { config } = readConfig(join(GOLDEN, name));
    const ways: Point["flags"][] = [{}, { method: "checkpoint", coupling: "ordinary" }, { optimizer: "adafactor" }];
    for (const flags of ways) {
      const { error, planned, measured } = compare({
        family: String(config.model_type),
        flags: { ...flags, max_length: 64, per_device_train_batch_size: 3 },
        sizes: config,
      });
      assert.ok(Math.abs(error) < 0.05, `${JSON.stringify(flags)}: ${(100 * error).toFixed(2)} %`);
      for (const term of ["weightBytes", "stateBytes", "gradientBytes", "streamBytes"] as const)
        assert.equal(planned.terms[term], measured[term], term);
    }
  });
}
