// What every store promises a step, asked of each row of the registry: a weight is what it was made as, changed where it is
// updated, found so when it is loaded again, and replaced; state begins at zero and is forgotten; nothing is left behind.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { readArchitecture } from "../families/registry.js";
import { freeModel, type Model, type PlacedParameter, placedParameters, randomModel } from "../model/model.js";
import { ALONE } from "../parallel/collectives.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { ledger } from "../torch/memory.js";
import { addScalar_, fill_ } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { byteSize, type Tensor, toArray } from "../torch/tensor.js";
import { STORE_NAMES, STORES } from "./registry.js";
import { nameOf, type ParameterStore, partOf, partsOf } from "./store.js";
import type { State } from "../optim/optimizer.js";

const architecture = readArchitecture({ ...TINY_QWEN2_MOE, num_hidden_layers: 3 }, "test");
const placed = placedParameters(architecture);
const plain = randomModel(architecture, 3, "float32", "cpu");
after(() => freeModel(plain));
const progress = (step: number) => ({ step, batches: { epoch: 0, position: 0 }, settings: {} });

/** The first parameter of a part. */
const firstOf = (part: number) => placed.find((each) => partOf(architecture, each) === part) as PlacedParameter;
const weightOf = ({ outer, blocks }: Model, part: number): Tensor => {
  const { layer, spec } = firstOf(part);
  return (layer < 0 ? outer : blocks[layer])[spec.name];
};
const first = (values: ArrayLike<number>): number => values[0];
const loaded = (store: ParameterStore, model: Model, part: number): number =>
  store.pass([part], () => store.load(part, (inUse) => first(toArray(inUse(weightOf(model, part))))));

for (const [name, blocksOnDevice] of [...STORE_NAMES.map((each) => [each, 0] as const), ["host", 1] as const]) {
  test(`${name}${blocksOnDevice > 0 ? ", a block on the device" : ""}: weights and state are kept and changed as a step asks`, (t) => {
    const folder = join(mkdtempSync(join(tmpdir(), "revmoe-store-")), "store");
    t.after(() => rmSync(join(folder, ".."), { recursive: true, force: true }));
    const before = ledger("cpu").liveBytes;
    const store = STORES[name].make({
      device: "cpu",
      architecture,
      folder,
      durability: "step",
      shared: { ranks: ALONE, stateOf: () => ({ layout: {}, elementwise: false }), stateBlock: 1 },
      stateBytes: () => 2 ** 20,
      blocksOnDevice,
    });
    const model = randomModel(architecture, 3, "float32", "cpu", store.allocate);
    const states = store.allocateState(
      placed.map((each) => ({
        placed: each,
        layout: { momentum: { shape: each.spec.shape, dtype: "float32" as const } },
      })),
    );
    const opened = new Map<string, State>(placed.map((each) => [nameOf(each), states.open(each)]));
    const stateOf = (part: number): State => opened.get(nameOf(firstOf(part))) as State;
    store.begin(progress(0));
    for (const part of partsOf(architecture)) {
      assert.equal(loaded(store, model, part), first(toArray(weightOf(plain, part))));
      assert.equal(first(toArray(stateOf(part).momentum)), 0);
    }

    const update = (part: number, change: (weight: Tensor, momentum: Tensor) => void): void =>
      store.update(part, (give) =>
        scope(() =>
          give({ weight: weightOf(model, part), ...stateOf(part) }, ({ weight, momentum }) => change(weight, momentum)),
        ),
      );
    store.backward(true, () => {
      for (const part of partsOf(architecture).reverse()) {
        loaded(store, model, part);
        update(part, (weight, momentum) => {
          addScalar_(weight, 1);
          fill_(momentum, 2);
        });
      }
    });
    store.finishStep(progress(1));
    const changed = (part: number): number => Math.fround(first(toArray(weightOf(plain, part))) + 1);
    for (const part of partsOf(architecture)) {
      assert.equal(loaded(store, model, part), changed(part));
      assert.equal(first(toArray(stateOf(part).momentum)), 2);
    }

    const failing = (): void =>
      store.backward(true, () =>
        update(1, (weight) => {
          fill_(weight, Number.NaN);
          throw new Error("cut off");
        }),
      );
    assert.throws(failing, /^Error: cut off$/);
    // What is changed in place can only come back from a store that keeps the old bytes.
    if (store.undoStep() || (name === "host" && blocksOnDevice === 0))
      assert.equal(loaded(store, model, 1), changed(1));

    states.release(stateOf(0));
    opened.set(nameOf(firstOf(0)), states.open(firstOf(0)));
    assert.equal(first(toArray(stateOf(0).momentum)), 0);
    store.replace(() => {
      fill_(weightOf(model, 1), 7);
      return progress(1);
    });
    assert.equal(loaded(store, model, 1), 7);

    free(...[...opened.values()].flatMap((state) => Object.values(state)));
    freeModel(model);
    store.close(true);
    assert.equal(ledger("cpu").liveBytes, before);
    assert.ok(!existsSync(folder));
  });
}

test("host: blocks that stay are spread evenly, read where they are stored, and counted", () => {
  const layers = readArchitecture({ ...TINY_QWEN2_MOE, num_hidden_layers: 6 }, "test");
  for (const [blocksOnDevice, stay] of [
    [0, []],
    [1, [5]],
    [2, [2, 5]],
    [3, [1, 3, 5]],
    [4, [1, 2, 4, 5]],
    [6, [0, 1, 2, 3, 4, 5]],
    [99, [0, 1, 2, 3, 4, 5]],
  ] as const) {
    const store = STORES.host.makePlanned({ device: "cpu", architecture: layers, blocksOnDevice });
    const model = randomModel(layers, 3, "float32", "cpu", store.allocate);
    const inPlace = [...model.blocks.keys()].filter((block) => {
      const [weight] = Object.values(model.blocks[block]);
      return store.load(block, (inUse) => inUse(weight) === weight);
    });
    assert.deepEqual(inPlace, [...stay]);
    const bytes = stay.map((block) => Object.values(model.blocks[block]).reduce((sum, t) => sum + byteSize(t), 0));
    assert.deepEqual(store.held, { weightBytes: bytes.reduce((sum, each) => sum + each, 0), stateBytes: 0 });
    freeModel(model);
    store.close(true);
  }
});
