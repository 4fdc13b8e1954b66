// A run's state comes back exactly; a folder that is cut off, of another version or of another optimiser is refused.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { freeModel } from "../../model/model.js";
import { ledger } from "../../torch/memory.js";
import { normal_ } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { fromArray, toArray, zeros } from "../../torch/tensor.js";
import {
  generatorStates,
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
  readSavedRun,
  restoreGenerators,
  type WrittenState,
  writeSavedRun,
} from "./state.js";
import { saveModel } from "../save.js";
import { folderFiles } from "../source.js";
import { tinyModel, withFolder } from "../testing-model.js";

const stateOf = (values: number[]): WrittenState => ({
  step: 12,
  batches: { epoch: 1, position: 34 },
  settings: { learning_rate: 1e-5, model: "m", none: null },
  tensors: [
    { name: "m.model.norm.weight", tensor: fromArray(values, [values.length], "float32") },
    { name: "scale.model.norm.weight", tensor: fromArray([7], [], "uint8") },
  ],
});

function refuses(act: () => unknown, pattern: RegExp): void {
  assert.throws(act, (failure: Error) => {
    assert.ok(failure instanceof UserError, String(failure));
    assert.match(failure.message, pattern);
    return true;
  });
}

test("state and optimiser come back exactly, and generators draw on as they would have", () =>
  withFolder((folder) =>
    scope(() => {
      setSeed(5);
      const generators = generatorStates(["cpu"]);
      const drawn = toArray(normal_(zeros([4], "float32"), 0, 1));
      writeSavedRun(folder, { ...stateOf([1, 2, 0.1]), generators });
      const before = ledger().tensors;
      const { restore, ...read } = readSavedRun(folder);
      const { tensors: _, ...written } = stateOf([]);
      assert.deepEqual(read, { ...written, data: null, best: null, generators });
      const fresh = stateOf([0, 0, 0]).tensors;
      restore(fresh);
      assert.deepEqual(toArray(fresh[0].tensor), [1, 2, Math.fround(0.1)]);
      assert.deepEqual(toArray(fresh[1].tensor), [7]);
      assert.equal(ledger().tensors, before + 2 + 2, "only the tensors that this test made");
      restoreGenerators(read.generators ?? {});
      assert.deepEqual(toArray(normal_(zeros([4], "float32"), 0, 1)), drawn);
    }),
  ));

test("a checkpoint that was cut off, or is of another program or optimiser, is refused in words", () =>
  withFolder((folder) =>
    scope(() => {
      const read = (): unknown => readSavedRun(folder);
      const json = join(folder, "trainer_state.json");
      const optimizer = join(folder, "optimizer.safetensors");
      const again = (): void => writeSavedRun(folder, stateOf([1, 2, 3]));
      refuses(read, /: trainer_state\.json is missing, so no run can go on from here/);
      again();
      rmSync(optimizer);
      refuses(read, /: optimizer\.safetensors is missing/);
      again();
      truncateSync(optimizer, readFileSync(optimizer).length - 1);
      refuses(read, /optimizer\.safetensors: the file is cut off: its header describes 13 bytes of tensors, found 12/);
      again();
      truncateSync(json, 40);
      refuses(read, /trainer_state\.json: cannot be read as JSON/);
      for (const [change, pattern] of [
        [{ version: 2 }, /version is 2 \(expected 1\)/],
        [{ version: undefined }, /version is missing/],
        [{ step: -1 }, /"step" is -1 \(expected a whole number/],
        [{ batches: { epoch: 0 } }, /"batches" is \{"epoch":0\} \(expected \{ epoch, position \}/],
        [{ settings: [] }, /"settings" is \[\]/],
        [{ generators: { cpu: 1 } }, /"generators" is \{"cpu":1\}/],
      ] as const) {
        again();
        writeFileSync(json, JSON.stringify({ ...(JSON.parse(readFileSync(json, "utf8")) as object), ...change }));
        refuses(read, pattern);
      }
      again();
      const { restore } = readSavedRun(folder);
      const [moment, scale] = stateOf([9, 9, 9]).tensors;
      refuses(
        () => restore([moment, scale, { name: "v.x", tensor: scale.tensor }]),
        /v\.x: not saved\. Resume with the model and optimizer settings/,
      );
      refuses(() => restore([moment]), /scale\.model\.norm\.weight: saved, but not part of this run's optimiser/);
      refuses(
        () => restore([scale, { ...moment, tensor: zeros([4], "float32") }]),
        /saved as float32 \[3\], but float32 \[4\] in this run/,
      );
      refuses(
        () => restore([scale, { ...moment, tensor: zeros([3], "bfloat16") }]),
        /saved as float32 \[3\], but bfloat16 \[3\] in this run/,
      );
      assert.deepEqual(toArray(moment.tensor), [9, 9, 9], "nothing is copied before all fit");
    }),
  ));

test("checkpoints are whole folders, listed in order of steps; the oldest go first", () =>
  withFolder((folder) => {
    assert.deepEqual([listCheckpoints(join(folder, "none")), latestCheckpoint(join(folder, "none"))], [[], null]);
    writeFileSync(join(folder, "config.json"), "{}");
    const model = tinyModel("bfloat16");
    for (const step of [2, 10, 9, 100]) {
      scope(() =>
        saveModel(join(folder, `checkpoint-${step}`), model, {
          source: folderFiles(folder),
          maxShardBytes: step === 9 ? 4000 : undefined,
          extraFiles: (side) => writeSavedRun(side, { ...stateOf([1]), step }),
        }),
      );
    }
    freeModel(model);
    for (const name of ["checkpoint-200", "checkpoint-007", "checkpoint-x", "final"]) mkdirSync(join(folder, name));
    mkdirSync(join(folder, "checkpoint-300.partial"));
    assert.deepEqual(listCheckpoints(folder), [2, 9, 10, 100]);
    assert.equal(latestCheckpoint(folder), join(folder, "checkpoint-100"));
    assert.equal(readSavedRun(join(folder, "checkpoint-9")).step, 9);
    rmSync(join(folder, "checkpoint-100", "optimizer.safetensors"));
    assert.equal(latestCheckpoint(folder), join(folder, "checkpoint-10"));
    assert.deepEqual(pruneCheckpoints(folder, 0), []);
    assert.equal(existsSync(join(folder, "checkpoint-300.partial")), false);
    assert.deepEqual(pruneCheckpoints(folder, 1), [2, 9]);
    assert.deepEqual(readdirSync(folder).sort(), [
      "checkpoint-007",
      "checkpoint-10",
      "checkpoint-100",
      "checkpoint-200",
      "checkpoint-x",
      "config.json",
      "final",
    ]);
  }));
