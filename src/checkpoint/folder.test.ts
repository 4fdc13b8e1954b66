// Single files and shards as one set of tensors, and what is wrong with a folder in words.
import assert from "node:assert/strict";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { ledger } from "../torch/memory.js";
import { scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import { openFolder, readConfig } from "./folder.js";
import { withFolder, writeRaw } from "./testing-model.js";

const one = (value: number): Uint8Array => new Uint8Array([value]);
const byte = { dtype: "U8", shape: [1], data_offsets: [0, 1] };

function writeShards(folder: string, weightMap: unknown): void {
  writeRaw(join(folder, "one.safetensors"), { a: byte }, one(1));
  writeRaw(join(folder, "two.safetensors"), { b: byte }, one(2));
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map: weightMap }));
}

test("shards are one set; a tensor that the index leaves out is still seen; a single file comes before an index", () =>
  withFolder((folder) => {
    const before = ledger();
    const valuesOf = (): Record<string, number> =>
      scope(() => {
        const opened = openFolder(folder);
        const values = Object.fromEntries(
          [...opened.tensors.keys()].map((name) => [name, toArray(opened.read(name))[0]]),
        );
        opened.close();
        return values;
      });
    writeShards(folder, { a: "one.safetensors", b: "two.safetensors" });
    assert.deepEqual(valuesOf(), { a: 1, b: 2 });
    writeRaw(
      join(folder, "two.safetensors"),
      { b: byte, c: { ...byte, data_offsets: [1, 2] } },
      new Uint8Array([2, 3]),
    );
    assert.deepEqual(valuesOf(), { a: 1, b: 2, c: 3 });
    writeRaw(join(folder, "model.safetensors"), { only: byte }, one(9));
    assert.deepEqual(valuesOf(), { only: 9 });
    assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
  }));

test("a tensor in two shards is the one that the index places", () =>
  withFolder((folder) => {
    for (const shard of ["one.safetensors", "two.safetensors"]) {
      writeShards(folder, { a: shard });
      writeRaw(join(folder, "two.safetensors"), { a: byte }, one(5));
      writeFileSync(
        join(folder, "model.safetensors.index.json"),
        JSON.stringify({ weight_map: { x: "three.safetensors", a: shard } }),
      );
      writeRaw(
        join(folder, "three.safetensors"),
        { x: byte, a: { ...byte, data_offsets: [1, 2] } },
        new Uint8Array([0, 7]),
      );
      const opened = openFolder(folder);
      scope(() => assert.deepEqual(toArray(opened.read("a")), [shard === "one.safetensors" ? 1 : 5]));
      opened.close();
    }
  }));

test("what is wrong with a folder is said, and no mapping stays open", () =>
  withFolder((folder) => {
    const before = ledger();
    const refuses = (open: () => unknown, pattern: RegExp): void =>
      assert.throws(open, (failure: Error) => {
        assert.ok(failure instanceof UserError, String(failure));
        assert.match(failure.message, pattern);
        return true;
      });
    const index = join(folder, "model.safetensors.index.json");
    refuses(
      () => openFolder(join(folder, "none")),
      /none: no such folder\. Check the path: a model is the folder of a Hugging Face checkpoint\.$/,
    );
    refuses(
      () => readConfig(join(folder, "none")),
      /none: no such folder\. Check the path: a model is the folder of a Hugging Face checkpoint\.$/,
    );
    refuses(() => readConfig(folder), /: no config\.json \(expected the folder of a Hugging Face checkpoint\)/);
    for (const target of ["config.json", "nowhere", "a/b"]) {
      symlinkSync(target, join(folder, "config.json"));
      refuses(() => readConfig(folder), /: config\.json is a link that leads nowhere \(expected/);
      rmSync(join(folder, "config.json"));
    }
    const run = join(folder, "run");
    mkdirSync(run);
    writeFileSync(join(run, "config.json"), JSON.stringify({ model: "m", train_file: "r.jsonl", output_dir: "run" }));
    refuses(
      () => readConfig(run),
      /run: is the folder of a run \(expected a model's\)\. Give what the run saved: a checkpoint-N in .*run\.$/,
    );
    mkdirSync(join(run, "final"));
    refuses(() => readConfig(run), /Give what the run saved: .*run\/final\.$/);
    writeFileSync(
      join(run, "config.json"),
      JSON.stringify({ model_type: "olmoe", train_file: "r.jsonl", output_dir: "run" }),
    );
    assert.equal(readConfig(run).config.model_type, "olmoe");
    writeFileSync(join(folder, "a.gguf"), "");
    refuses(
      () => openFolder(join(folder, "a.gguf")),
      /is a file .* This needs the folder that a \.gguf file was made from\.$/,
    );
    refuses(() => readConfig(folder), /Hugging Face checkpoint\)\. Give the file itself: .*a\.gguf\.$/);
    refuses(() => openFolder(folder), /: no weights \(expected model\.safetensors, or/);
    writeFileSync(join(folder, "pytorch_model.bin"), "");
    refuses(() => openFolder(folder), /: pytorch_model\.bin but no model\.safetensors\. Convert it: load/);
    refuses(() => openFolder(join(folder, "pytorch_model.bin")), /is a file \(expected the folder/);
    mkdirSync(join(folder, "c"));
    writeFileSync(join(folder, "c", "config.json"), '{\n  "model_type": }');
    refuses(() => readConfig(join(folder, "c")), /config\.json: cannot be read as JSON: .*token/);
    writeFileSync(join(folder, "c", "config.json"), "[]");
    refuses(() => readConfig(join(folder, "c")), /config\.json: holds \[\] \(expected a JSON object\)/);
    writeFileSync(join(folder, "c", "config.json"), '{"x": 1}');
    const path = join(folder, "c", "config.json");
    assert.deepEqual(readConfig(join(folder, "c")), { config: { x: 1 }, path, quantisation: null });

    writeFileSync(index, "{");
    refuses(() => openFolder(folder), /index\.json: cannot be read as JSON/);
    for (const [map, pattern] of [
      [undefined, /weight_map is missing \(expected an object/],
      [["a"], /weight_map is \["a"\]/],
      [{}, /weight_map is \{\}/],
      [{ a: 5 }, /places a in 5 \(expected the name of a file/],
      [{ a: "../one.safetensors" }, /places a in "\.\.\/one\.safetensors"/],
      [
        { a: "one.safetensors", b: "gone.safetensors" },
        /: gone\.safetensors is missing, but model\.safetensors\.index\.json names it/,
      ],
      [{ a: "one.safetensors", c: "two.safetensors" }, /places c in two\.safetensors, which lacks it/],
    ] as const) {
      writeShards(folder, map);
      refuses(() => openFolder(folder), pattern);
    }
    assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
  }));
