// Tensors that pass through, and corrections of the choice: whatever else is cast, renamed or laid out anew, they are saved and
// exported in the bits and types that they came in.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import type { Architecture } from "../model/architecture.js";
import { freeModel, savedBytes, weightBytes } from "../model/model.js";
import { ledger } from "../torch/memory.js";
import { free, keep, scope } from "../torch/scope.js";
import { dtype, fromArray, shape, type Tensor } from "../torch/tensor.js";
import { exportFolder } from "./export.js";
import { openFolder, readConfig, SINGLE_FILE } from "./folder.js";
import { loadModel } from "./load.js";
import { openSafetensors } from "./safetensors/file.js";
import { writeSafetensors } from "./safetensors/writer.js";
import { saveModel } from "./save.js";
import { folderFiles } from "./source.js";
import { withFolder } from "./testing-model.js";
import { sameBits } from "./verify.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));

const CASES = [
  { golden: "glm4-plain", prefix: "model.layers.3.", correction: "mlp.gate.e_score_correction_bias" },
  { golden: "ernie-tied", prefix: "model.mtp_block.0.", correction: "mlp.moe_statics.e_score_correction_bias" },
  { golden: "next-shared", prefix: "mtp.", correction: null },
];

const passing = (prefix: string): Record<string, Tensor> => ({
  [`${prefix}eh_proj.weight`]: fromArray([1, Number.NaN, -3, 0.1, 5, 6], [2, 3], "bfloat16"),
  [`${prefix}enorm.weight`]: fromArray([0.1, 0.2, 0.3], [3], "float32"),
  [`${prefix}counts`]: fromArray([1, -2], [2, 1], "int64"),
});

/** The golden model with more tensors. */
function withPassing(folder: string, golden: string, passed: Record<string, Tensor>): string {
  const dir = join(folder, "source");
  mkdirSync(dir);
  cpSync(join(GOLDEN, golden, "config.json"), join(dir, "config.json"));
  const file = openSafetensors(join(GOLDEN, golden, SINGLE_FILE));
  const own = [...file.entries.values()].map((entry) => ({ ...entry, read: () => file.read(entry.name) }));
  const added = Object.entries(passed).map(([name, tensor]) => ({
    name,
    dtype: dtype(tensor),
    shape: shape(tensor),
    read: () => tensor,
  }));
  writeSafetensors(join(dir, SINGLE_FILE), [...own, ...added], { format: "pt" });
  file.close();
  return dir;
}

function assertHas(dir: string, expected: Record<string, Tensor>): void {
  const folder = openFolder(dir);
  for (const [name, tensor] of Object.entries(expected))
    assert.ok(
      scope(() => sameBits(folder.read(name), tensor)),
      `${dir}: ${name}`,
    );
  folder.close();
}

for (const { golden, prefix, correction: own } of CASES) {
  test(`${golden}: what passes through is in what is saved and exported, also when the source is gone`, () => {
    const before = ledger().tensors;
    const passed = scope(() => passing(prefix));
    withFolder((folder) => {
      const dir = withPassing(folder, golden, passed);
      for (const [layout, type] of [
        ["per-expert", "bfloat16"],
        ["fused", "float32"],
      ] as const) {
        const to = join(folder, `exported-${layout}`);
        const { leftOut, notes } = exportFolder(to, dir, { layout, dtype: type, maxShardBytes: 9000 });
        assert.deepEqual(leftOut, []);
        assert.match(notes[0], /has 3 tensors, \S+ and so on \(40 B\) that no layer here uses; they are not trained/);
        assertHas(to, passed);
      }
      const model = loadModel(dir, { weightsDtype: "bfloat16", device: "cpu" });
      assert.equal(savedBytes(model) - weightBytes(model), 12 + 12 + 16);
      rmSync(dir, { recursive: true });
      const saved = join(folder, "saved");
      saveModel(saved, model, { source: folderFiles(join(GOLDEN, golden)), layout: "fused" });
      assertHas(saved, passed);
      freeModel(model);
      const again = loadModel(saved, { weightsDtype: "auto", device: "cpu" });
      assert.deepEqual(again.passed?.tensors.map(({ name }) => name).sort(), Object.keys(passed).sort());
      freeModel(again);
    });
    free(...Object.values(passed));
    assert.equal(ledger().tensors, before);
  });

  if (own === null) continue;
  test(`${golden}: corrections stay float32 in a model and an export of bfloat16`, () =>
    withFolder((folder) => {
      const dir = join(GOLDEN, golden);
      const name = `model.layers.1.${own}`;
      const source = openFolder(dir);
      const correction = keep(source.read(name));
      source.close();
      const [exported, saved] = ["exported", "saved"].map((each) => join(folder, each));
      exportFolder(exported, dir, { layout: "per-expert", dtype: "bfloat16", maxShardBytes: 5e9 });
      const model = loadModel(dir, { weightsDtype: "bfloat16", device: "cpu" });
      assert.deepEqual(
        Object.entries(model.blocks[1]).flatMap(([each, tensor]) => (dtype(tensor) === "bfloat16" ? [] : [each])),
        ["mlp.gate.e_score_correction_bias"],
      );
      saveModel(saved, model, { source: folderFiles(dir), dtype: "float16" });
      freeModel(model);
      for (const each of [exported, saved]) assertHas(each, { [name]: correction });
      free(correction);
    }));
}

test("the tower of a model that sees is in what is saved and exported, byte for byte, whatever weights become", () =>
  withFolder((folder) => {
    const dir = join(GOLDEN, "qwen35-seeing");
    const source = openFolder(dir);
    const names = [...source.tensors.keys()].filter((name) => name.startsWith("model.visual."));
    const tower = scope(() => names.map((name) => [name, keep(source.read(name))] as const));
    source.close();
    assert.equal(names.length, 21);
    const [exported, asTrained, saved] = ["exported", "trained", "saved"].map((each) => join(folder, each));
    exportFolder(exported, dir, { layout: "fused", dtype: "bfloat16", maxShardBytes: 9000 });
    const trained = { network: { coupling: "momentum" }, extend: (a: Architecture) => a, extraFiles: () => {} };
    exportFolder(asTrained, dir, { layout: "per-expert", dtype: "bfloat16", maxShardBytes: 9000, trained });
    assert.equal(readConfig(asTrained).config.model_type, "qwen3_5_moe");
    const model = loadModel(dir, { weightsDtype: "bfloat16", device: "cpu" });
    saveModel(saved, model, { source: folderFiles(dir) });
    freeModel(model);
    for (const each of [exported, asTrained, saved]) assertHas(each, Object.fromEntries(tower));
    free(...tower.map(([, tensor]) => tensor));
  }));

test("of a family without such layers, further tensors are refused as before", () =>
  withFolder((folder) => {
    scope(() => {
      const dir = withPassing(folder, "minimax-plain", passing("model.layers.2."));
      assert.throws(() => loadModel(dir, { weightsDtype: "auto", device: "cpu" }), {
        name: "UserError",
        message: /3 extra: model\.layers\.2\./,
      });
    });
  }));
