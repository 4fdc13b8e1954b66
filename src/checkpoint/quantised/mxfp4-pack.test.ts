// Packing to MXFP4: against a slow search for the nearest value, exact for what it holds already, and an export that keeps the bytes
// of a release and that our reader gives back.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { freeModel } from "../../model/model.js";
import { normal_ } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { fromArray, toArray, zeros } from "../../torch/tensor.js";
import { exportFolder } from "../export.js";
import { openFolder } from "../folder.js";
import { loadModel } from "../load.js";
import { saveModel } from "../save.js";
import { openSource } from "../source.js";
import { differences, tinyModel, withFolder } from "../testing-model.js";
import { sameBits } from "../verify.js";
import { SIZES } from "./mxfp4.js";
import { pack } from "./mxfp4-pack.js";

const golden = (name: string): string => fileURLToPath(new URL(`../../../test/golden/${name}`, import.meta.url));
const RELEASED = golden("gptoss-mxfp4");
const PACKED = { layout: "per-expert", dtype: "mxfp4", maxShardBytes: 1e9 } as const;

/** Of one block: its scale, and a code for each value. */
function slow(values: number[]): { scale: number; codes: number[] } {
  const largest = Math.max(...values.map(Math.abs));
  const scale = largest === 0 ? 0 : Math.min(254, Math.max(0, Math.floor(Math.log2(largest)) - 2 + 127));
  const codes = values.map((value) => {
    const size = Math.abs(value) / 2 ** (scale - 127);
    // The nearer of two; of two as near, the one with an even place.
    const place = SIZES.reduce((best, at, i) => {
      const [now, before] = [Math.abs(size - at), Math.abs(size - SIZES[best])];
      return now < before || (now === before && i % 2 === 0) ? i : best;
    }, 0);
    return place + (value < 0 || Object.is(value, -0) ? 8 : 0);
  });
  return { scale, codes };
}

test("each value becomes the nearest, each block has the power of two of its largest", () => {
  scope(() => {
    setSeed(8);
    // More rows than are packed at once.
    const [rows, columns] = [2800, 96];
    const random = toArray(normal_(zeros([rows, columns], "float32"), 0, 1)).map((value, i) =>
      Math.fround(value * 2 ** (((i >> 5) % 20) - 10)),
    );
    // Ties, what is beyond the largest, zeros of both signs, and a block of the smallest numbers.
    const ties = [4, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -5, 6, 7, -7.5, 7.99, 0, -0];
    ties.forEach((value, i) => (random[i] = value));
    for (let i = 32; i < 64; i++) random[i] = i % 2 ? 2 ** -140 : -0;
    for (let i = 64; i < 96; i++) random[i] = 0;
    const { blocks_RGB, scales_RG } = pack(fromArray(random, [rows, columns], "float32"));
    const [bytes, scales] = [toArray(blocks_RGB), toArray(scales_RG)];
    for (const [block, scale] of scales.entries()) {
      const expected = slow(random.slice(32 * block, 32 * block + 32));
      assert.equal(scale, expected.scale, `scale ${block}`);
      const codes = bytes.slice(16 * block, 16 * block + 16).flatMap((byte) => [byte & 15, byte >> 4]);
      assert.deepEqual(codes, expected.codes, `block ${block}`);
    }
  });
});

const bytesOf = (folder: string): [string, number[]][] => {
  const opened = openFolder(folder);
  const found = [...opened.tensors.keys()].filter((name) => /_(blocks|scales)$/.test(name)).sort();
  const values = scope(() => found.map((name): [string, number[]] => [name, toArray(opened.read(name))]));
  opened.close();
  return values;
};

test("a release keeps its bytes; what was decoded and saved keeps its values, and its bytes from then on", () =>
  withFolder((place) => {
    const at = (name: string): string => join(place, name);
    const { notes, dtype } = exportFolder(at("same"), RELEASED, PACKED);
    assert.deepEqual([notes, dtype], [[], "bfloat16"]);
    const [released, same] = [RELEASED, at("same")].map(openFolder);
    assert.deepEqual([...same.tensors.keys()].sort(), [...released.tensors.keys()].sort());
    for (const name of same.tensors.keys())
      scope(() => assert.ok(sameBits(same.read(name), released.read(name)), name));
    for (const each of [released, same]) each.close();
    const config = JSON.parse(readFileSync(join(at("same"), "config.json"), "utf8"));
    assert.equal(config.quantization_config.quant_method, "mxfp4");
    assert.equal(config.torch_dtype ?? config.dtype, "bfloat16");

    const model = loadModel(RELEASED, { weightsDtype: "auto", device: "cpu" });
    saveModel(at("decoded"), model, { source: openSource(RELEASED) });
    exportFolder(at("again"), at("decoded"), PACKED);
    const again = loadModel(at("again"), { weightsDtype: "auto", device: "cpu" });
    assert.deepEqual(differences(again, model), []);
    saveModel(at("decoded-again"), again, { source: openSource(at("again")) });
    exportFolder(at("third"), at("decoded-again"), PACKED);
    assert.deepEqual(bytesOf(at("third")), bytesOf(at("again")));
    for (const each of [model, again]) freeModel(each);
  }));

test("what cannot be packed is refused", () =>
  withFolder((place) => {
    const refuses = (source: string, message: RegExp): void =>
      assert.throws(() => exportFolder(join(place, "out"), source, PACKED), { name: "UserError", message });
    refuses(
      golden("gptoss-plain"),
      /^dtype: mxfp4 has blocks of 32 values, which 24 columns of .*gate_up_proj are not made of/,
    );
    const model = tinyModel("float32");
    saveModel(join(place, "other"), model, { source: openSource(golden("hf-tiny")) });
    freeModel(model);
    refuses(join(place, "other"), /^dtype: mxfp4 is how gpt_oss is released \(.*other is qwen2_moe\)/);
  }));
