// FP8 in blocks: against torch and against a slow decoder, bit for bit; a released folder as ordinary weights, loaded, saved and
// exported; and what does not fit together.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { ConfigReader } from "../../families/config-reader.js";
import { freeModel } from "../../model/model.js";
import { cast } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { dtype, fromArray, shape, toArray } from "../../torch/tensor.js";
import { exportFolder } from "../export.js";
import { loadModel } from "../load.js";
import type { Folder } from "../model-files.js";
import { openSafetensors } from "../safetensors/file.js";
import { byteLength } from "../safetensors/header.js";
import { modelTensors, saveModel } from "../save.js";
import { openSource, sourceNotes } from "../source.js";
import { CONFIG, differences, tinyModel, withFolder, writeRaw } from "../testing-model.js";
import { sameBits } from "../verify.js";
import { fp8Blocks } from "./fp8-blocks.js";

const GOLDEN = fileURLToPath(new URL("../../../test/golden/fp8", import.meta.url));
const settings = (block: unknown, more: object = {}): Record<string, unknown> => ({
  ...{ quant_method: "fp8", fmt: "e4m3", activation_scheme: "dynamic", weight_block_size: block },
  ...more,
});
const opened = (block: unknown) => fp8Blocks.open(new ConfigReader(settings(block), "config.json"));

test("every byte and every kind of scale has the bits that torch gives it", () => {
  const { entries, read, close } = openSafetensors(join(GOLDEN, "packed.safetensors"));
  const folder = opened([16, 8]).decoded({ dir: GOLDEN, tensors: entries, read, close }, "bfloat16");
  const expected = openSafetensors(join(GOLDEN, "decoded.safetensors"));
  assert.deepEqual([...folder.tensors.keys()].sort(), [...expected.entries.keys()].sort());
  for (const name of folder.tensors.keys()) {
    scope(() => assert.ok(sameBits(folder.read(name), expected.read(name)), name));
    assert.equal(folder.tensors.get(name)?.dtype, name === "norm.weight" ? "float32" : "bfloat16");
  }
  expected.close();
  folder.close();
});

/** The value of a byte as its bits are defined. */
function slow(byte: number): number {
  const bits = byte.toString(2).padStart(8, "0");
  const [exponent, fraction] = [Number.parseInt(bits.slice(1, 5), 2), Number.parseInt(bits.slice(5), 2)];
  const size = exponent === 0 ? (fraction / 8) * 2 ** -6 : (1 + fraction / 8) * 2 ** (exponent - 7);
  return bits[0] === "1" ? -size : size;
}

test("576 rows have 5 rows of scales, and tiles do not show", () => {
  for (const [rows, columns, block] of [
    [576, 300, [128, 128]],
    [2000, 700, [128, 128]],
    [70, 64, [1, 32]],
    [40, 30, [1e9, 1e9]],
    [1500, 1000, [1000, 1]],
  ] as const) {
    const grid = [Math.ceil(rows / block[0]), Math.ceil(columns / block[1])];
    const bytes = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 37 + (i >> 8)) % 127);
    const scales = Float32Array.from({ length: grid[0] * grid[1] }, (_, i) => 0.001 * (i + 1));
    scope(() => {
      const stored = {
        "x.weight": fromArray(bytes, [rows, columns], "uint8"),
        "x.weight_scale_inv": fromArray(scales, grid, "float32"),
      };
      const packed: Folder = {
        dir: "here",
        tensors: new Map([
          ["x.weight", { dtype: "uint8", shape: [rows, columns], eightBits: "F8_E4M3" }],
          ["x.weight_scale_inv", { dtype: "float32", shape: grid }],
        ]),
        read: (name) => stored[name as keyof typeof stored],
        close: () => {},
      };
      const folder = opened(block).decoded(packed, "float32");
      assert.deepEqual([...folder.tensors.keys()], ["x.weight"]);
      const expected = Float32Array.from(bytes, (byte, i) => {
        const [row, column] = [Math.floor(i / columns), i % columns];
        return slow(byte) * scales[Math.floor(row / block[0]) * grid[1] + Math.floor(column / block[1])];
      });
      assert.ok(sameBits(folder.read("x.weight"), fromArray(expected, [rows, columns], "float32")), `${rows}`);
    });
  }
});

/** A tiny model with its matrices in FP8, in blocks of 8 x 8; `change` edits the header. */
function writeQuantised(
  folder: string,
  change: (header: Record<string, object>) => void = () => {},
  config: object = {},
): void {
  const model = tinyModel("bfloat16");
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }> = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  const put = (name: string, type: string, sizes: number[], bytes: Uint8Array): void => {
    header[name] = { dtype: type, shape: sizes, data_offsets: [end, end + bytes.length] };
    parts.push(bytes);
    end += bytes.length;
  };
  for (const [i, { name, shape: sizes, read }] of modelTensors(model, { layout: "per-expert" }).entries()) {
    const [rows, columns] = sizes;
    if (!/_proj\.weight$/.test(name)) {
      const values = scope(() => Float32Array.from(toArray(cast(read(), "float32"))));
      put(name, "F32", sizes, new Uint8Array(values.buffer));
      continue;
    }
    const grid = [Math.ceil(rows / 8), Math.ceil(columns / 8)];
    put(
      name,
      "F8_E4M3",
      sizes,
      Uint8Array.from({ length: rows * columns }, (_, at) => (at * 29 + i) % 120),
    );
    const scales = Float32Array.from({ length: grid[0] * grid[1] }, (_, at) => 0.0013 * (at + 1));
    put(`${name}_scale_inv`, "F32", grid, new Uint8Array(scales.buffer));
  }
  freeModel(model);
  change(header);
  writeRaw(join(folder, "model.safetensors"), header, Buffer.concat(parts));
  const stated = { ...CONFIG, torch_dtype: "bfloat16", quantization_config: settings([8, 8]), ...config };
  writeFileSync(join(folder, "config.json"), JSON.stringify(stated, null, 2));
}

test("a quantised folder is loaded, saved and exported as ordinary weights", () =>
  withFolder((place) => {
    const folder = join(place, "released");
    mkdirSync(folder);
    writeQuantised(folder);
    const source = openSource(folder);
    assert.equal("quantization_config" in source.config, false);
    assert.match(sourceNotes(source).join(), /FP8 in blocks of 8 x 8, and decoded as they are read: to bfloat16/);
    const weights = source.openWeights();
    const name = "model.layers.0.mlp.experts.1.down_proj.weight";
    const kept = scope(() => {
      assert.equal(dtype(weights.read(name)), "float32");
      return toArray(cast(weights.read(name), "bfloat16"));
    });
    weights.close();

    const exact = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
    const own = loadModel(folder, { weightsDtype: "auto", device: "cpu" });
    assert.equal(dtype(own.blocks[0]["mlp.experts.down_proj"]), "bfloat16");
    const [, ...sizes] = shape(own.blocks[0]["mlp.experts.down_proj"]);
    const size = byteLength("uint8", sizes);
    assert.deepEqual(toArray(own.blocks[0]["mlp.experts.down_proj"]).slice(size, 2 * size), kept);
    for (const [to, options] of [
      ["bfloat16", { dtype: "auto" }],
      ["float32", { dtype: "float32" }],
    ] as const) {
      const { notes } = exportFolder(join(place, to), folder, {
        layout: "per-expert",
        maxShardBytes: 1e9,
        ...options,
      });
      assert.match(notes.join(), /FP8/);
      assert.doesNotMatch(readFileSync(join(place, to, "config.json"), "utf8"), /quantization_config/);
      const again = loadModel(join(place, to), { weightsDtype: "auto", device: "cpu" });
      assert.deepEqual(differences(again, to === "float32" ? exact : own), []);
      freeModel(again);
    }
    saveModel(join(place, "saved"), own, { source });
    const saved = loadModel(join(place, "saved"), { weightsDtype: "auto", device: "cpu" });
    assert.deepEqual(differences(saved, own), []);
    for (const model of [exact, own, saved]) freeModel(model);
  }));

test("what does not fit together is refused", () =>
  withFolder((folder) => {
    const name = "model.layers.2.mlp.experts.3.up_proj.weight";
    const refuses = (expected: RegExp, change: (header: Record<string, object>) => void, config: object = {}): void => {
      writeQuantised(folder, change, config);
      assert.throws(() => openSource(folder).openWeights(), { name: "UserError", message: expected });
    };
    refuses(/up_proj\.weight_scale_inv is missing \(expected numbers of shape \[1, 2\]/, (header) => {
      header.other = header[`${name}_scale_inv`];
      delete header[`${name}_scale_inv`];
    });
    refuses(/up_proj\.weight_scale_inv is float32 \[2, 1\] \(expected numbers of shape \[1, 2\]/, (header) => {
      Object.assign(header[`${name}_scale_inv`], { shape: [2, 1] });
    });
    const none = (): void => {};
    const quantised = (block: unknown, more: object = {}): object => ({ quantization_config: settings(block, more) });
    refuses(
      /config\.json: quantization_config: "weight_block_size" is null \(expected the rows/,
      none,
      quantised(null),
    );
    refuses(/"weight_block_size" is \[8,0\]/, none, quantised([8, 0]));
    refuses(
      /"activation_scheme" is "static" \(expected "dynamic"/,
      none,
      quantised([8, 8], { activation_scheme: "static" }),
    );
    refuses(/"fmt" is "e5m2"/, none, quantised([8, 8], { fmt: "e5m2" }));

    const loads = (expected: RegExp, config: object): void => {
      writeQuantised(folder, none, config);
      assert.throws(() => loadModel(folder, { weightsDtype: "auto", device: "cpu" }), { message: expected });
    };
    loads(/quantised \(awq\)/, { quantization_config: { quant_method: "awq" } });
    loads(/unfit: \S+: F8_E4M3 in the checkpoint/, { quantization_config: undefined });
  }));
