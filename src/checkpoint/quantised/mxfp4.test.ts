// MXFP4: against transformers and against a slow decoder, bit for bit; a released folder as ordinary weights, loaded, saved and
// exported; and what does not fit together.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { ConfigReader } from "../../families/config-reader.js";
import { freeModel } from "../../model/model.js";
import { select } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { dtype, fromArray, type Tensor, toArray } from "../../torch/tensor.js";
import { exportFolder } from "../export.js";
import { loadModel } from "../load.js";
import type { Folder } from "../model-files.js";
import { openSafetensors } from "../safetensors/file.js";
import { saveModel } from "../save.js";
import { openSource, sourceNotes } from "../source.js";
import { differences, withFolder } from "../testing-model.js";
import { sameBits } from "../verify.js";
import { mxfp4 } from "./mxfp4.js";

const golden = (name: string): string => fileURLToPath(new URL(`../../../test/golden/${name}`, import.meta.url));
const RELEASED = golden("gptoss-mxfp4");
const format = mxfp4.open(new ConfigReader({ quant_method: "mxfp4" }, "config.json"));

test("every byte and every scale has the bits that transformers gives it, whole and expert by expert", () => {
  const { entries, read, close } = openSafetensors(golden("mxfp4/packed.safetensors"));
  const folder = format.decoded({ dir: "here", tensors: entries, read, close }, "float32");
  const expected = openSafetensors(golden("mxfp4/decoded.safetensors"));
  assert.deepEqual([...folder.tensors.keys()].sort(), [...expected.entries.keys()].sort());
  for (const [name, { shape, dtype }] of folder.tensors) {
    assert.deepEqual([dtype, shape], [expected.entries.get(name)?.dtype, expected.entries.get(name)?.shape]);
    scope(() => {
      assert.ok(sameBits(folder.read(name), expected.read(name)), name);
      for (let index = 0; index < shape[0]; index++)
        assert.ok(
          sameBits(folder.readOne?.(name, index) as Tensor, select(expected.read(name), 0, index)),
          `${name} ${index}`,
        );
    });
  }
  expected.close();
  folder.close();
});

/** As the standard defines it: E2M1 with bias 1, times 2 to the power of the scale minus 127. */
function slow(bits: number, scale: number): number {
  const [exponent, fraction] = [(bits >> 1) & 3, bits & 1];
  const size = exponent === 0 ? fraction / 2 : (1 + fraction / 2) * 2 ** (exponent - 1);
  return (bits & 8 ? -size : size) * 2 ** (scale - 127);
}

test("rows of several blocks are those of a slow decoder", () => {
  const [experts, rows, blocks] = [2, 7, 3];
  const bytes = Uint8Array.from({ length: experts * rows * blocks * 16 }, (_, i) => (i * 41 + (i >> 7)) % 256);
  const scales = Uint8Array.from({ length: experts * rows * blocks }, (_, i) => 90 + ((i * 13) % 80));
  scope(() => {
    const stored = {
      x_blocks: fromArray(bytes, [experts, rows, blocks, 16], "uint8"),
      x_scales: fromArray(scales, [experts, rows, blocks], "uint8"),
    };
    const packed: Folder = {
      dir: "here",
      tensors: new Map([
        ["x_blocks", { dtype: "uint8", shape: [experts, rows, blocks, 16] }],
        ["x_scales", { dtype: "uint8", shape: [experts, rows, blocks] }],
      ]),
      read: (name) => stored[name as keyof typeof stored],
      close: () => {},
    };
    const columns = 32 * blocks;
    const expected = Array.from({ length: experts * columns * rows }, (_, i) => {
      const [expert, column, row] = [Math.floor(i / (columns * rows)), Math.floor(i / rows) % columns, i % rows];
      const at = (expert * rows + row) * blocks + (column >> 5);
      const byte = bytes[at * 16 + ((column & 31) >> 1)];
      return slow(column & 1 ? byte >> 4 : byte & 15, scales[at]);
    });
    assert.deepEqual(toArray(format.decoded(packed, "float32").read("x")), expected);
  });
});

test("a released folder is loaded, saved and exported as ordinary weights", () =>
  withFolder((place) => {
    const source = openSource(RELEASED);
    assert.equal("quantization_config" in source.config, false);
    assert.match(sourceNotes(source).join(), /weights are MXFP4, and decoded as they are read: to bfloat16/);
    const model = loadModel(RELEASED, { weightsDtype: "auto", device: "cpu" });
    assert.equal(dtype(model.blocks[0]["mlp.experts.down_proj"]), "bfloat16");
    const { notes } = exportFolder(join(place, "exported"), RELEASED, {
      ...{ layout: "per-expert", maxShardBytes: 1e9, dtype: "auto" },
    });
    assert.match(notes.join(), /MXFP4/);
    saveModel(join(place, "saved"), model, { source, layout: "fused" });
    for (const name of ["exported", "saved"]) {
      assert.doesNotMatch(readFileSync(join(place, name, "config.json"), "utf8"), /quantization_config/);
      const again = loadModel(join(place, name), { weightsDtype: "auto", device: "cpu" });
      assert.deepEqual(differences(again, model), []);
      freeModel(again);
    }
    freeModel(model);
  }));

test("a config.json that leaves the dtype to the format has bfloat16, and says so when it is saved", () =>
  withFolder((place) => {
    const released = join(place, "released");
    mkdirSync(released);
    copyFileSync(join(RELEASED, "model.safetensors"), join(released, "model.safetensors"));
    const { torch_dtype: _dtype, ...config } = JSON.parse(readFileSync(join(RELEASED, "config.json"), "utf8"));
    writeFileSync(join(released, "config.json"), JSON.stringify(config, null, 2));
    assert.equal(openSource(released).config.torch_dtype, "bfloat16");
    exportFolder(join(place, "out"), released, { layout: "per-expert", maxShardBytes: 1e9, dtype: "auto" });
    const saved = JSON.parse(readFileSync(join(place, "out", "config.json"), "utf8"));
    assert.deepEqual([saved.torch_dtype, "quantization_config" in saved], ["bfloat16", false]);
  }));

test("what does not fit together is refused", () =>
  withFolder((folder) => {
    const refuses = (
      expected: RegExp,
      change: (header: Record<string, { dtype: string; shape: number[] }>) => void,
    ) => {
      const bytes = readFileSync(join(RELEASED, "model.safetensors"));
      const length = Number(bytes.readBigUInt64LE());
      const header = JSON.parse(bytes.toString("utf8", 8, 8 + length));
      change(header);
      const text = Buffer.from(JSON.stringify(header));
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(BigInt(text.length));
      writeFileSync(join(folder, "model.safetensors"), Buffer.concat([size, text, bytes.subarray(8 + length)]));
      assert.throws(() => openSource(folder).openWeights(), { name: "UserError", message: expected });
    };
    mkdirSync(folder, { recursive: true });
    copyFileSync(join(RELEASED, "config.json"), join(folder, "config.json"));
    const name = "model.layers.1.mlp.experts.down_proj";
    refuses(/down_proj_scales is missing \(expected uint8 of shape \[3, 32, 1\], as MXFP4 is\)/, (header) => {
      header.other = header[`${name}_scales`];
      delete header[`${name}_scales`];
    });
    refuses(/down_proj_scales is uint8 \[3, 1, 32\] \(expected uint8 of shape \[3, 32, 1\]/, (header) => {
      header[`${name}_scales`].shape = [3, 1, 32];
    });
    refuses(
      /down_proj_blocks is uint8 \[3, 32, 2, 8\] \(expected uint8 of shape \[experts, rows, blocks, 16\]/,
      (header) => {
        header[`${name}_blocks`].shape = [3, 32, 2, 8];
      },
    );
    refuses(/down_proj_blocks is int8 /, (header) => {
      header[`${name}_blocks`].dtype = "I8";
    });
  }));
