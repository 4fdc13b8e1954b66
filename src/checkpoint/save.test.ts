// Saving and loading again: bit for bit for every dtype, tying and layout, one file or shards; the other files of a
// folder.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { freeModel, weightBytes } from "../model/model.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { addScalar_ } from "../torch/ops.js";
import { byteSize, dtype } from "../torch/tensor.js";
import { openFolder } from "./folder.js";
import { loadModel } from "./load.js";
import { modelTensors, saveModel } from "./save.js";
import { writeSafetensors } from "./safetensors/writer.js";
import { byteLength } from "./safetensors/header.js";
import { filesLeftOut, folderFiles, withFilesKept } from "./source.js";
import { CONFIG_TEXT, differences, tinyModel, withFolder } from "./testing-model.js";
import { compareFolder } from "./verify.js";

const AUTO = { weightsDtype: "auto", device: "cpu" } as const;

test("every dtype, tying and layout comes back bit for bit, in one file and in shards", () =>
  withFolder((folder) => {
    for (const type of ["float32", "bfloat16"] as const) {
      for (const tied of [false, true]) {
        for (const layout of ["per-expert", "fused"] as const) {
          for (const maxShardBytes of [undefined, 6000]) {
            const dir = join(folder, "model");
            const model = tinyModel(type, { tie_word_embeddings: tied });
            const before = ledger();
            saveModel(dir, model, { source: folderFiles(folder), layout, maxShardBytes });
            assert.equal(ledger().tensors, before.tensors);
            const files = readdirSync(dir).filter((name) => name.endsWith(".safetensors"));
            if (maxShardBytes === undefined) assert.deepEqual(files, ["model.safetensors"]);
            else
              assert.ok(
                files.length > 2 &&
                  files.every(
                    (name, i) =>
                      name ===
                      `model-${String(i + 1).padStart(5, "0")}-of-${String(files.length).padStart(5, "0")}.safetensors`,
                  ),
              );
            const loaded = loadModel(dir, AUTO);
            assert.equal(dtype(loaded.outer["model.norm.weight"]), type);
            assert.equal("lm_head.weight" in loaded.outer, !tied);
            assert.deepEqual(differences(loaded, model), []);
            freeModel(loaded);
            freeModel(model);
          }
        }
      }
    }
  }));

test("names and shapes on disk are those of the family, in both layouts", () =>
  withFolder((folder) => {
    const model = tinyModel("bfloat16");
    const shapes = (layout: "per-expert" | "fused"): Record<string, number[]> => {
      saveModel(join(folder, layout), model, { source: folderFiles(folder), layout });
      const opened = openFolder(join(folder, layout));
      opened.close();
      return Object.fromEntries([...opened.tensors].map(([name, entry]) => [name, entry.shape]));
    };
    const perExpert = shapes("per-expert");
    assert.equal(Object.keys(perExpert).length, 3 + 3 * 9 + 2 * (1 + 12 + 4) + 3);
    assert.deepEqual(perExpert["model.layers.2.mlp.experts.3.up_proj.weight"], [8, 16]);
    assert.deepEqual(perExpert["model.layers.0.mlp.experts.0.down_proj.weight"], [16, 8]);
    assert.deepEqual(perExpert["model.layers.1.mlp.gate_proj.weight"], [24, 16]);
    assert.equal(
      Object.keys(perExpert).some((name) => name.startsWith("model.layers.1.mlp.experts")),
      false,
    );
    const fused = shapes("fused");
    assert.deepEqual(fused["model.layers.2.mlp.experts.gate_up_proj"], [4, 16, 16]);
    assert.deepEqual(fused["model.layers.2.mlp.experts.down_proj"], [4, 16, 8]);
    freeModel(model);
  }));

test("every family comes back bit for bit in both layouts, with Mixtral's own names on disk expert by expert", () =>
  withFolder((folder) => {
    for (const model_type of ["qwen2_moe", "qwen3_moe", "mixtral", "olmoe"]) {
      const model = tinyModel("bfloat16", { model_type, attention_bias: true });
      for (const layout of ["per-expert", "fused"] as const) {
        const dir = join(folder, `${model_type}-${layout}`);
        saveModel(dir, model, { source: folderFiles(folder), layout });
        const loaded = loadModel(dir, AUTO);
        assert.equal(loaded.architecture.modelType, model_type);
        assert.deepEqual(differences(loaded, model), []);
        freeModel(loaded);
      }
      freeModel(model);
    }
    const routedNames = (layout: string): string[] => {
      const opened = openFolder(join(folder, `mixtral-${layout}`));
      opened.close();
      return [...opened.tensors.keys()]
        .filter((name) => /layers\.1\..*(moe|mlp)/.test(name))
        .map((name) => name.replace("model.layers.1.", ""))
        .sort();
    };
    assert.deepEqual(
      routedNames("per-expert"),
      [
        "block_sparse_moe.gate.weight",
        ...[0, 1, 2, 3].flatMap((e) => [
          `block_sparse_moe.experts.${e}.w1.weight`,
          `block_sparse_moe.experts.${e}.w3.weight`,
        ]),
        ...[0, 1, 2, 3].map((e) => `block_sparse_moe.experts.${e}.w2.weight`),
      ].sort(),
    );
    assert.deepEqual(routedNames("fused"), ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.gate.weight"]);
  }));

test("shards keep to their size, and the index names every tensor and the total", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    saveModel(join(folder, "m"), model, { source: folderFiles(folder), maxShardBytes: 3000 });
    const index = JSON.parse(readFileSync(join(folder, "m", "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    const opened = openFolder(join(folder, "m"));
    opened.close();
    assert.equal(index.metadata.total_size, weightBytes(model));
    assert.deepEqual(Object.keys(index.weight_map).sort(), [...opened.tensors.keys()].sort());
    const bytes = new Map<string, number[]>();
    for (const [name, { dtype, shape }] of opened.tensors)
      bytes.set(index.weight_map[name], [...(bytes.get(index.weight_map[name]) ?? []), byteLength(dtype, shape)]);
    for (const sizes of bytes.values())
      assert.ok(sizes.length === 1 || sizes.reduce((sum, size) => sum + size) <= 3000, `${sizes}`);
    assert.throws(
      () => saveModel(join(folder, "n"), model, { source: folderFiles(folder), maxShardBytes: 0 }),
      /maxShardBytes: is 0 \(expected at least 1/,
    );
    assert.equal(existsSync(join(folder, "n")), false);
    freeModel(model);
  }));

test("saving takes no memory beyond one slice, verification included", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    const before = ledger();
    resetPeak();
    saveModel(join(folder, "m"), model, { source: folderFiles(folder) });
    const scalars = 8;
    assert.ok(
      ledger().peakBytes <= before.liveBytes + scalars,
      "same dtype: views, and the least and largest value of one",
    );
    saveModel(join(folder, "m"), model, { source: folderFiles(folder), dtype: "bfloat16" });
    const largestOnDisk = byteSize(model.outer["lm_head.weight"]) / 2;
    assert.ok(
      ledger().peakBytes - before.liveBytes <= largestOnDisk + scalars,
      `${ledger().peakBytes - before.liveBytes}`,
    );
    const loaded = loadModel(join(folder, "m"), AUTO);
    assert.equal(dtype(loaded.outer["model.norm.weight"]), "bfloat16");
    freeModel(loaded);
    freeModel(model);
  }));

test("config.json keeps its text but for the dtype; tokenizer files are copied; extra files are written", () =>
  withFolder((folder) => {
    const source = join(folder, "source");
    mkdirSync(source);
    writeFileSync(join(source, "config.json"), CONFIG_TEXT);
    for (const name of ["tokenizer.json", "merges.txt", "generation_config.json", "chat_template.jinja", "README.md"])
      writeFileSync(join(source, name), `<${name}>`);
    const model = tinyModel("bfloat16");
    const dir = join(folder, "m");
    saveModel(dir, model, {
      source: folderFiles(source),
      extraFiles: (side) => writeFileSync(join(side, "more.json"), "{}"),
    });
    assert.deepEqual(readdirSync(dir).sort(), [
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "merges.txt",
      "model.safetensors",
      "more.json",
      "revmoe-manifest.json",
      "tokenizer.json",
    ]);
    assert.equal(readFileSync(join(dir, "tokenizer.json"), "utf8"), "<tokenizer.json>");
    assert.ok(CONFIG_TEXT.includes("10000.0"));
    assert.equal(
      readFileSync(join(dir, "config.json"), "utf8"),
      CONFIG_TEXT.replace('"torch_dtype": "float32"', '"torch_dtype": "bfloat16"'),
    );
    saveModel(dir, model, { source: folderFiles(dir), dtype: "float32" });
    assert.equal(readFileSync(join(dir, "config.json"), "utf8"), CONFIG_TEXT, "a folder may be saved over itself");
    freeModel(model);
  }));

test("named chat templates of a folder are saved as a list in tokenizer_config.json, links out of the model left out", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    const save = (name: string, files: Record<string, string>): Record<string, unknown> => {
      const source = join(folder, name);
      mkdirSync(join(source, "additional_chat_templates"), { recursive: true });
      for (const [file, text] of Object.entries(files)) writeFileSync(join(source, file), text);
      symlinkSync(join(folder, "far.jinja"), join(source, "additional_chat_templates/far.jinja"));
      const kept = withFilesKept({ ...folderFiles(source), config: {}, configPath: "", openWeights: assert.fail });
      assert.match(filesLeftOut(kept).join(), /^[^,]*additional_chat_templates\/far\.jinja is a link to/);
      saveModel(join(folder, `${name}-saved`), model, { source: kept });
      assert.equal(existsSync(join(folder, `${name}-saved`, "chat_template.jinja")), false);
      return JSON.parse(readFileSync(join(folder, `${name}-saved`, "tokenizer_config.json"), "utf8"));
    };
    writeFileSync(join(folder, "far.jinja"), "far");
    const tool = { "additional_chat_templates/tool_use.jinja": "{{ tools }} \u00fc" };
    const named = { name: "tool_use", template: "{{ tools }} \u00fc" };
    assert.deepEqual(
      save("file", { ...tool, "chat_template.jinja": "d", "tokenizer_config.json": '{"eos_token":"e"}' }),
      {
        eos_token: "e",
        chat_template: [{ name: "default", template: "d" }, named],
      },
    );
    assert.deepEqual(save("text", { ...tool, "tokenizer_config.json": '{"chat_template":"d"}' }), {
      chat_template: [{ name: "default", template: "d" }, named],
    });
    assert.deepEqual(save("alone", tool), { chat_template: [named] });
    freeModel(model);
  }));

test("verification finds a single changed bit, a missing and an extra tensor", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    const tensors = modelTensors(model, { layout: "per-expert" });
    writeSafetensors(join(folder, "model.safetensors"), tensors);
    compareFolder(folder, tensors);
    assert.throws(() => compareFolder(folder, tensors.slice(1)), /model\.embed_tokens\.weight reads back differently/);
    assert.throws(
      () => compareFolder(folder, [...tensors, { ...tensors[0], name: "new" }]),
      /: new reads back differently/,
    );
    addScalar_(model.blocks[2]["post_attention_layernorm.weight"], 2 ** -23);
    assert.throws(
      () => compareFolder(folder, tensors),
      /model\.layers\.2\.post_attention_layernorm\.weight reads back differently from what was saved/,
    );
    const dir = join(folder, "m");
    assert.throws(
      () =>
        saveModel(dir, model, {
          source: folderFiles(folder),
          extraFiles: (side) => writeSafetensors(join(side, "model.safetensors"), tensors.slice(1)),
        }),
      /model\.embed_tokens\.weight reads back differently.* Nothing that was saved before was touched/,
    );
    assert.equal(existsSync(dir), false);
    freeModel(model);
  }));
