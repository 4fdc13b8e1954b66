// Loading: the same bits from every layout, conversions, memory, and differences between weights and config.json by
// name.
import assert from "node:assert/strict";
import { readdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { allParameters, freeModel, type Model, weightBytes } from "../model/model.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { addScalar_, cast } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { byteSize, type DType, dtype, full, toArray, zeros } from "../torch/tensor.js";
import { loadModel, type LoadOptions } from "./load.js";
import { modelTensors, saveModel } from "./save.js";
import { type TensorSource, writeSafetensors } from "./safetensors/writer.js";
import { folderFiles } from "./source.js";
import { CONFIG, differences, tinyModel, withFolder } from "./testing-model.js";

const CPU = (weightsDtype: LoadOptions["weightsDtype"] = "auto"): LoadOptions => ({ weightsDtype, device: "cpu" });

/** The tensors of a new model, changed, and config.json, in `folder`. */
function write(
  folder: string,
  change: (tensors: TensorSource[], model: Model) => TensorSource[],
  config: Record<string, unknown> = {},
  type: DType = "float32",
): void {
  const model = tinyModel(type, config);
  writeSafetensors(join(folder, "model.safetensors"), change(modelTensors(model, { layout: "per-expert" }), model));
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...CONFIG, ...config }));
  freeModel(model);
}

test("per-expert and fused parameters may stand beside one another in one folder", () =>
  withFolder((folder) => {
    const model = tinyModel("bfloat16");
    const fused = modelTensors(model, { layout: "fused" }).filter(({ name }) =>
      /layers\.0\.mlp\.experts\.gate_up|layers\.2\.mlp\.experts\.down/.test(name),
    );
    assert.equal(fused.length, 2);
    write(
      folder,
      (tensors) => [
        ...tensors.filter(
          ({ name }) => !/layers\.0\.mlp\.experts\.\d+\.(gate|up)|layers\.2\.mlp\.experts\.\d+\.down/.test(name),
        ),
        ...fused,
      ],
      {},
      "bfloat16",
    );
    const loaded = loadModel(folder, CPU());
    assert.deepEqual(differences(loaded, model), []);
    freeModel(loaded);
    freeModel(model);
  }));

test("experts are stacked gate over up, expert by expert", () =>
  withFolder((folder) => {
    write(folder, (tensors) =>
      tensors.map((source) => {
        const expert = /layers\.2\.mlp\.experts\.(\d)\.(gate|up|down)_proj/.exec(source.name);
        if (!expert) return source;
        const value = Number(expert[1]) * 10 + ["gate", "up", "down"].indexOf(expert[2]);
        return { ...source, read: () => full(source.shape, value, "float32") };
      }),
    );
    const model = loadModel(folder, CPU());
    const rows = (name: string, width: number): number[] =>
      toArray(model.blocks[2][name]).filter((_, i) => i % width === 0);
    assert.deepEqual(rows("mlp.experts.gate_up_proj", 8 * 16), [0, 1, 10, 11, 20, 21, 30, 31]);
    assert.deepEqual(rows("mlp.experts.down_proj", 16 * 8), [2, 12, 22, 32]);
    freeModel(model);
  }));

test("Mixtral's w1 is the gate, w3 the upper and w2 the lower matrix, and what is missing has its name on disk", () =>
  withFolder((folder) => {
    const mixtral = { model_type: "mixtral" };
    const parts = ["w1", "w3", "w2"];
    write(
      folder,
      (tensors) =>
        tensors.map((source) => {
          const expert = /layers\.2\.block_sparse_moe\.experts\.(\d)\.(w\d)\.weight/.exec(source.name);
          if (!expert) return source;
          return {
            ...source,
            read: () => full(source.shape, Number(expert[1]) * 10 + parts.indexOf(expert[2]), "float32"),
          };
        }),
      mixtral,
    );
    const model = loadModel(folder, CPU());
    const rows = (name: string, width: number): number[] =>
      toArray(model.blocks[2][name]).filter((_, i) => i % width === 0);
    assert.deepEqual(rows("mlp.experts.gate_up_proj", 24 * 16), [0, 1, 10, 11, 20, 21, 30, 31]);
    assert.deepEqual(rows("mlp.experts.down_proj", 16 * 24), [2, 12, 22, 32]);
    freeModel(model);
    write(folder, (tensors) => tensors.filter(({ name }) => !/layers\.1\..*(gate|2\.w3)/.test(name)), mixtral);
    assert.throws(
      () => loadModel(folder, CPU()),
      /2 missing: model\.layers\.1\.block_sparse_moe\.gate\.weight; model\.layers\.1\.block_sparse_moe\.experts\.2\.w3\.weight\./,
    );
  }));

test("dtypes: auto keeps float32 and bfloat16 and widens float16; a stated one converts", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    const saved = (kind: DType): TensorSource[] => modelTensors(model, { layout: "per-expert", dtype: kind });
    for (const [onDisk, asked, expected] of [
      ["float32", "auto", "float32"],
      ["bfloat16", "auto", "bfloat16"],
      ["float16", "auto", "float32"],
      ["float64", "auto", "float32"],
      ["float32", "bfloat16", "bfloat16"],
      ["bfloat16", "float32", "float32"],
    ] as const) {
      write(folder, () => saved(onDisk));
      const loaded = loadModel(folder, CPU(asked));
      scope(() => {
        for (const [i, parameter] of allParameters(loaded).entries()) {
          assert.equal(dtype(parameter), expected);
          const rounded = cast(cast(allParameters(model)[i], onDisk), expected);
          assert.deepEqual(toArray(parameter), toArray(rounded));
        }
      });
      freeModel(loaded);
    }
    write(folder, () =>
      saved("bfloat16").map((source) =>
        source.name === "model.norm.weight" || source.name.endsWith("0.mlp.experts.3.down_proj.weight")
          ? { ...source, dtype: "float32", read: () => zeros(source.shape, "float32") }
          : source,
      ),
    );
    const mixed = loadModel(folder, CPU());
    assert.equal(dtype(mixed.outer["model.norm.weight"]), "float32");
    assert.equal(dtype(mixed.blocks[0]["mlp.experts.down_proj"]), "float32");
    assert.equal(dtype(mixed.blocks[2]["mlp.experts.down_proj"]), "bfloat16");
    freeModel(mixed);
    freeModel(model);
  }));

test("memory: the model, at most one tensor more, and nothing mapped afterwards; updates never reach the file", () =>
  withFolder((folder) => {
    for (const [onDisk, asked, layout] of [
      ["float32", "auto", "per-expert"],
      ["bfloat16", "auto", "per-expert"],
      ["float32", "bfloat16", "per-expert"],
      ["bfloat16", "float32", "per-expert"],
      ["float32", "auto", "fused"],
      ["bfloat16", "float32", "fused"],
    ] as const) {
      write(folder, (_, model) => modelTensors(model, { layout }), {}, onDisk);
      const before = ledger();
      resetPeak();
      const model = loadModel(folder, CPU(asked));
      const largest = Math.max(...allParameters(model).map(byteSize));
      // No slack: nothing but parameters is allocated when the file is aligned, and ours are.
      assert.ok(
        ledger().peakBytes - before.liveBytes <= weightBytes(model) + largest,
        `${ledger().peakBytes - before.liveBytes}`,
      );
      assert.equal(ledger().liveBytes - before.liveBytes, weightBytes(model));
      assert.equal(ledger().mappedBytes, before.mappedBytes);
      for (const parameter of allParameters(model)) addScalar_(parameter, 1);
      freeModel(model);
      assert.equal(ledger().tensors, before.tensors);
      const [again, original] = [loadModel(folder, CPU()), tinyModel(onDisk)];
      assert.deepEqual(differences(again, original), []);
      freeModel(again);
      freeModel(original);
    }
  }));

test("inside a scope the model belongs to the caller, not to the scope", () =>
  withFolder((folder) => {
    write(folder, (tensors) => tensors);
    const holder: Model[] = [];
    scope(() => void holder.push(loadModel(folder, CPU())));
    assert.equal(toArray(holder[0].outer["model.norm.weight"])[0], 1);
    freeModel(holder[0]);
  }));

test("missing, misshapen and extra tensors are all named with their counts, before anything is read", () =>
  withFolder((folder) => {
    const before = ledger();
    const refuses = (pattern: RegExp): void => {
      resetPeak();
      assert.throws(
        () => loadModel(folder, CPU()),
        (failure: Error) => {
          assert.ok(failure instanceof UserError, String(failure));
          assert.match(failure.message, pattern);
          return true;
        },
      );
      assert.deepEqual(
        [ledger().tensors, ledger().peakBytes, ledger().mappedBytes],
        [before.tensors, before.liveBytes, before.mappedBytes],
      );
    };
    const drop =
      (pattern: RegExp) =>
      (tensors: TensorSource[]): TensorSource[] =>
        tensors.filter(({ name }) => !pattern.test(name));
    const add =
      (name: string, type: DType = "float32") =>
      (tensors: TensorSource[]): TensorSource[] => [
        ...tensors,
        { name, dtype: type, shape: [2], read: () => zeros([2], type) },
      ];

    write(folder, drop(/model\.norm/));
    refuses(/the weights do not fit config\.json\. 1 missing: model\.norm\.weight\. Check/);
    write(folder, drop(/mlp\.experts\.2\.up_proj/));
    refuses(
      /2 missing: model\.layers\.0\.mlp\.experts\.2\.up_proj\.weight; model\.layers\.2\.mlp\.experts\.2\.up_proj\.weight\./,
    );
    write(folder, drop(/layers\.0\./));
    refuses(/26 missing: (model\.layers\.0\.[\w.]+; ){5}and 21 more\. Check/);
    write(folder, (tensors) => tensors);
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...CONFIG, num_experts: 3 }));
    refuses(
      /2 unfit: model\.layers\.0\.mlp\.gate\.weight: shape \[4, 16\] in the checkpoint, \[3, 16\] by config\.json; .* 6 extra: model\.layers\.0\.mlp\.experts\.3\.gate_proj\.weight/,
    );
    write(folder, add("model.layers.0.mlp.bias"));
    refuses(/1 extra: model\.layers\.0\.mlp\.bias\./);
    write(folder, (tensors, model) => [
      ...tensors,
      ...modelTensors(model, { layout: "fused" }).filter(({ name }) => name.endsWith("0.mlp.experts.down_proj")),
    ]);
    refuses(/4 extra: model\.layers\.0\.mlp\.experts\.0\.down_proj\.weight/);
    write(folder, (tensors) =>
      tensors.map((source) =>
        source.name === "model.norm.weight" ? { ...source, dtype: "int32", read: () => zeros([16], "int32") } : source,
      ),
    );
    refuses(/1 unfit: model\.norm\.weight: int32 in the checkpoint \(expected float32, bfloat16/);
    write(folder, add("lm_head.weight"), { tie_word_embeddings: true });
    free(...allParameters(loadModel(folder, CPU())));
    write(folder, add("model.layers.1.self_attn.rotary_emb.inv_freq"));
    free(...allParameters(loadModel(folder, CPU())));
  }));

test("a shard cut off in a download is refused with its name", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    saveModel(join(folder, "m"), model, { source: folderFiles(folder), maxShardBytes: 8000 });
    freeModel(model);
    const shard = readdirSync(join(folder, "m")).filter((name) => /^model-00002-of-\d{5}\.safetensors$/.test(name))[0];
    truncateSync(join(folder, "m", shard), statSync(join(folder, "m", shard)).size - 100);
    assert.throws(
      () => loadModel(join(folder, "m"), CPU()),
      (failure: Error) => {
        assert.ok(failure instanceof UserError && failure.message.includes(shard), String(failure));
        const figures =
          /describes (\d+) bytes of tensors, found (\d+)\./.exec(failure.message) ?? assert.fail(failure.message);
        return Number(figures[1]) - Number(figures[2]) === 100;
      },
    );
  }));

test("settings of another order of size than the weights are refused by their counts, not name by name", () =>
  withFolder((folder) => {
    write(folder, (tensors) => tensors);
    for (const [change, said] of [
      [
        { num_hidden_layers: 500, num_experts: 2000 },
        /500 layers and 2000 experts, \d{6,} tensors or more: there are \d+\./,
      ],
      [{ num_hidden_layers: 1_000_000_000 }, /"num_hidden_layers" is 1000000000 \(expected at most 512\)/],
      [{ num_experts: 10_000_000 }, /"num_experts" is 10000000 \(expected at most 2048\)/],
      [
        {
          num_hidden_layers: 500,
          num_experts: 2000,
          hidden_size: 131_072,
          head_dim: 64,
          moe_intermediate_size: 131_072,
        },
        /its sizes make up to \d+\.\d T parameters \(expected at most 1000\.0 T\)/,
      ],
    ] as const) {
      writeFileSync(join(folder, "config.json"), JSON.stringify({ ...CONFIG, ...change }));
      assert.throws(() => loadModel(folder, CPU()), { name: "UserError", message: said });
    }
  }));
