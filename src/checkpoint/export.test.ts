// An export holds the source's bits under other names, rounded as a cast rounds, in memory of one tensor; whatever is
// wrong with the source leaves nothing behind.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { freeModel } from "../model/model.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { cast, fill_, select } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { byteSize, type DType, full, toArray, type Tensor } from "../torch/tensor.js";
import { checkFreeSpace } from "./files/disk.js";
import { exportFolder, type ExportOptions } from "./export.js";
import { openFolder } from "./folder.js";
import { loadModel } from "./load.js";
import { modelTensors, saveModel } from "./save.js";
import { type TensorSource, writeSafetensors } from "./safetensors/writer.js";
import { folderFiles } from "./source.js";
import { CONFIG, differences, tinyModel, withFolder } from "./testing-model.js";
import { sameBits } from "./verify.js";

const AS_IT_IS: ExportOptions = { layout: "per-expert", dtype: "auto", maxShardBytes: 5e9, overwrite: true };
const LAYOUTS = ["per-expert", "fused"] as const;

/** A model of the family, saved; the caller removes it with its folder. */
function source(folder: string, model_type: string, layout: (typeof LAYOUTS)[number], type: DType): string {
  const dir = join(folder, "source");
  const model = tinyModel(type, { model_type, attention_bias: true, num_local_experts: 4 });
  saveModel(dir, model, { source: folderFiles(folder), layout });
  freeModel(model);
  return dir;
}

test("every family: from either layout to either, the bits are the same, and back they are the same files", () =>
  withFolder((folder) => {
    for (const family of ["qwen2_moe", "qwen3_moe", "mixtral", "olmoe"]) {
      for (const from of LAYOUTS) {
        const dir = source(folder, family, from, "bfloat16");
        const model = loadModel(dir, { weightsDtype: "auto", device: "cpu" });
        for (const layout of LAYOUTS) {
          const to = join(folder, "to");
          const before = ledger().tensors;
          const exported = exportFolder(to, dir, { ...AS_IT_IS, layout, maxShardBytes: 2000 });
          assert.equal(ledger().tensors, before);
          const opened = openFolder(to);
          const wanted = modelTensors(model, { layout });
          assert.deepEqual(
            [...opened.tensors.keys()].sort(),
            wanted.map(({ name }) => name).sort(),
            `${family} ${from} ${layout}`,
          );
          for (const { name, read } of wanted)
            assert.ok(
              scope(() => sameBits(opened.read(name), read())),
              `${family} ${name}`,
            );
          opened.close();
          assert.deepEqual([exported.tensors, exported.dtype, exported.leftOut], [wanted.length, "bfloat16", []]);
          assert.ok(readdirSync(to).filter((name) => name.endsWith(".safetensors")).length > 3);
          const back = join(folder, "back");
          exportFolder(back, to, { ...AS_IT_IS, layout: from });
          for (const name of ["model.safetensors", "config.json"]) {
            assert.ok(
              readFileSync(join(back, name)).equals(readFileSync(join(dir, name))),
              `${family} ${layout} ${name}`,
            );
          }
        }
        freeModel(model);
      }
    }
  }));

test("a dtype rounds as a cast does, and config.json says it", () =>
  withFolder((folder) => {
    const dir = source(folder, "qwen2_moe", "per-expert", "float32");
    const model = loadModel(dir, { weightsDtype: "auto", device: "cpu" });
    for (const layout of LAYOUTS) {
      for (const type of ["bfloat16", "float16", "float32"] as const) {
        const to = join(folder, "to");
        assert.equal(exportFolder(to, dir, { ...AS_IT_IS, layout, dtype: type }).dtype, type);
        const opened = openFolder(to);
        for (const { name, read } of modelTensors(model, { layout })) {
          assert.ok(
            scope(() => sameBits(opened.read(name), cast(read(), type))),
            `${type} ${name}`,
          );
        }
        opened.close();
        assert.equal(
          (JSON.parse(readFileSync(join(to, "config.json"), "utf8")) as { torch_dtype: string }).torch_dtype,
          type,
        );
      }
    }
    freeModel(model);
  }));

test("auto keeps each tensor's dtype; a stack of several becomes float32", () =>
  withFolder((folder) => {
    const dir = join(folder, "source");
    const model = tinyModel("bfloat16");
    const wide = ["model.norm.weight", "model.layers.0.mlp.experts.1.up_proj.weight"];
    write(
      dir,
      modelTensors(model, { layout: "per-expert" }).map((tensor) =>
        wide.includes(tensor.name)
          ? { ...tensor, dtype: "float32", read: () => full(tensor.shape, 0.1, "float32") }
          : tensor,
      ),
    );
    const typesOf = (layout: (typeof LAYOUTS)[number]): string[] => {
      const to = join(folder, "to");
      exportFolder(to, dir, { ...AS_IT_IS, layout });
      const opened = openFolder(to);
      opened.close();
      return [...opened.tensors]
        .filter(([, { dtype: type }]) => type !== "bfloat16")
        .map(([name, { dtype: type }]) => `${name} ${type}`);
    };
    assert.deepEqual(typesOf("per-expert").sort(), wide.map((name) => `${name} float32`).sort());
    assert.deepEqual(typesOf("fused").sort(), [
      "model.layers.0.mlp.experts.gate_up_proj float32",
      "model.norm.weight float32",
    ]);
    const loaded = loadModel(join(folder, "to"), { weightsDtype: "bfloat16", device: "cpu" });
    assert.deepEqual(differences(loaded, model).sort(), [
      "model.layers.0.mlp.experts.gate_up_proj",
      "model.norm.weight",
    ]);
    scope(() =>
      assert.equal(
        toArray(select(loaded.blocks[0]["mlp.experts.gate_up_proj"], 0, 1))[8 * 16],
        Math.fround(0.10009765625),
      ),
    );
    freeModel(loaded);
    freeModel(model);
  }));

test("memory: nothing but one tensor, or one stack of experts, and nothing mapped afterwards", () =>
  withFolder((folder) => {
    const dir = source(folder, "qwen2_moe", "per-expert", "float32");
    const peakOf = (options: Partial<ExportOptions>): number => {
      const before = ledger();
      resetPeak();
      exportFolder(join(folder, "to"), dir, { ...AS_IT_IS, ...options });
      assert.equal(ledger().mappedBytes, before.mappedBytes);
      return ledger().peakBytes - before.liveBytes;
    };
    const model = tinyModel("float32");
    const stackBytes = byteSize(model.blocks[0]["mlp.experts.gate_up_proj"]);
    freeModel(model);
    // The two figures that are compared with the largest, and the range's own temporaries, are scalars.
    const scalars = 64;
    assert.ok(peakOf({}) <= scalars, "the same dtype and layout: views alone");
    assert.ok(peakOf({ dtype: "bfloat16" }) <= 40 * 16 * 2 + scalars);
    assert.ok(peakOf({ layout: "fused" }) <= stackBytes + scalars);
    assert.ok(peakOf({ layout: "fused", dtype: "bfloat16" }) <= Math.max(stackBytes / 2, 40 * 16 * 2) + scalars);
  }));

function write(dir: string, tensors: TensorSource[], config: Record<string, unknown> = {}): void {
  mkdirSync(dir, { recursive: true });
  writeSafetensors(join(dir, "model.safetensors"), tensors);
  writeFileSync(join(dir, "config.json"), JSON.stringify({ ...CONFIG, ...config }));
}

test("a weight beyond float16, and one that is not finite, is refused with its name; nothing is left behind", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    const dir = join(folder, "source");
    const to = join(folder, "to");
    const UP = "model.layers.2.mlp.experts.3.up_proj.weight";
    const put = (value: number): void => {
      scope(() => fill_(select(select(select(model.blocks[2]["mlp.experts.gate_up_proj"], 0, 3), 0, 9), 0, 1), value));
      write(dir, modelTensors(model, { layout: "per-expert" }));
    };
    const refuses = (options: Partial<ExportOptions>, pattern: RegExp): void => {
      const before = ledger();
      assert.throws(
        () => exportFolder(to, dir, { ...AS_IT_IS, ...options }),
        (failure: Error) => {
          assert.ok(failure instanceof UserError, String(failure));
          assert.match(failure.message, pattern);
          return true;
        },
      );
      assert.deepEqual(readdirSync(folder), ["source"]);
      assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
    };
    const exports = (type: DType): void => {
      assert.equal(exportFolder(to, dir, { ...AS_IT_IS, dtype: type }).dtype, type);
      spawnSync("rm", ["-r", to]);
    };
    put(-65504);
    exports("float16");
    put(-65505);
    refuses(
      { dtype: "float16" },
      /source: model\.layers\.2\.mlp\.experts\.3\.up_proj\.weight holds 65505\.0 \(expected at most 65504\.0, the largest float16\)\. Use dtype auto, which keeps float32\./,
    );
    exports("bfloat16");
    put(3.4e38);
    refuses({ dtype: "bfloat16" }, /holds 3\.40000e\+38 \(expected at most 3\.38953e\+38, the largest bfloat16\)/);
    exports("float32");
    put(Number.NaN);
    refuses({}, new RegExp(`${UP.replaceAll(".", "\\.")} holds NaN \\(expected finite weights\\)`));
    put(Number.NEGATIVE_INFINITY);
    refuses(
      { layout: "fused" },
      /model\.layers\.2\.mlp\.experts\.3\.up_proj\.weight holds an infinite value \(expected finite weights\)/,
    );
    freeModel(model);
  }));

test("what is no parameter is left out and named; keys for transformers 4 are added to the per-expert layout alone", () =>
  withFolder((folder) => {
    const model = tinyModel("float32", { tie_word_embeddings: true });
    const extra = (name: string): TensorSource => ({
      name,
      dtype: "float32",
      shape: [2],
      read: (): Tensor => full([2], 1, "float32"),
    });
    const rope = { rope_theta: 500, rope_type: "default" };
    write(
      join(folder, "source"),
      [...modelTensors(model, { layout: "fused" }), extra("lm_head.weight"), extra("x.rotary_emb.inv_freq")],
      {
        tie_word_embeddings: true,
        rope_parameters: rope,
      },
    );
    freeModel(model);
    const per = exportFolder(join(folder, "per"), join(folder, "source"), AS_IT_IS);
    assert.deepEqual(per.leftOut.sort(), ["lm_head.weight", "x.rotary_emb.inv_freq"]);
    assert.deepEqual(per.addedKeys, ["rope_theta", "rope_scaling"]);
    assert.match(
      readFileSync(join(folder, "per", "config.json"), "utf8"),
      /"rope_theta": 500\.0,\n {2}"rope_scaling": null\n\}/,
    );
    const fused = exportFolder(join(folder, "fused"), join(folder, "source"), { ...AS_IT_IS, layout: "fused" });
    assert.deepEqual(fused.addedKeys, []);
    assert.deepEqual(JSON.parse(readFileSync(join(folder, "fused", "config.json"), "utf8")), {
      ...CONFIG,
      tie_word_embeddings: true,
      rope_parameters: rope,
    });
  }));

test("tokenizer files come along, revmoe.json does not; the source itself is no place for the result", () =>
  withFolder((folder) => {
    const dir = source(folder, "olmoe", "fused", "float32");
    for (const name of [
      "tokenizer.json",
      "chat_template.jinja",
      "generation_config.json",
      "revmoe.json",
      "optimizer.safetensors",
    ]) {
      writeFileSync(join(dir, name), name);
    }
    exportFolder(join(folder, "to"), dir, AS_IT_IS);
    assert.deepEqual(readdirSync(join(folder, "to")).sort(), [
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "revmoe-manifest.json",
      "tokenizer.json",
    ]);
    symlinkSync(dir, join(folder, "link"));
    for (const same of [dir, `${dir}/`, join(folder, "link")]) {
      assert.throws(
        () => exportFolder(same, dir, AS_IT_IS),
        /is the folder of the model, which nothing may change\. Choose another folder\./,
      );
    }
    assert.ok(existsSync(join(dir, "revmoe.json")));
  }));

test("a folder is replaced by request alone, and by that only one of ours", () =>
  withFolder((folder) => {
    const dir = source(folder, "olmoe", "fused", "float32");
    const to = join(folder, "to");
    const options = { ...AS_IT_IS, overwrite: undefined };
    exportFolder(to, dir, options);
    writeFileSync(join(to, "README.md"), "card");
    assert.throws(
      () => exportFolder(to, dir, options),
      /to: is not replaced, because it holds .*or replace this one with overwrite_output_dir/,
    );
    assert.match(
      exportFolder(to, dir, { ...options, overwrite: true }).notes.join(),
      /README\.md is not of our making; kept/,
    );
    assert.equal(readFileSync(join(to, "README.md"), "utf8"), "card");
    rmSync(join(to, "revmoe-manifest.json"));
    assert.throws(
      () => exportFolder(to, dir, { ...options, overwrite: true }),
      /and no manifest says that it was saved by this program/,
    );
    assert.equal(readFileSync(join(to, "README.md"), "utf8"), "card");
  }));

test("links that leave the model's folder are not copied, and named; those of a hub's cache are followed", () =>
  withFolder((folder) => {
    const dir = source(folder, "olmoe", "fused", "float32");
    const secret = join(folder, "secret");
    writeFileSync(secret, "key");
    mkdirSync(join(folder, "blobs"));
    writeFileSync(join(folder, "blobs", "a".repeat(40)), "{}");
    symlinkSync(secret, join(dir, "tokenizer.json"));
    symlinkSync("../secret", join(dir, "chat_template.jinja"));
    symlinkSync(`../blobs/${"a".repeat(40)}`, join(dir, "merges.txt"));
    writeFileSync(join(dir, "inside"), "i");
    symlinkSync("inside", join(dir, "vocab.txt"));
    const { notes } = exportFolder(join(folder, "to"), dir, AS_IT_IS);
    assert.deepEqual(
      notes.map((note) => /(\S+) is a link to (\S+),/.exec(note)?.slice(1)),
      ["tokenizer.json", "chat_template.jinja", "merges.txt"].map((name) => [
        join(dir, name),
        name === "merges.txt" ? join(folder, "blobs", "a".repeat(40)) : secret,
      ]),
    );
    assert.deepEqual(readdirSync(join(folder, "to")).sort(), [
      "config.json",
      "model.safetensors",
      "revmoe-manifest.json",
      "vocab.txt",
    ]);
    for (const [commit, up] of [
      [join(folder, "b".repeat(40)), "../blobs"],
      [join(folder, "snapshots", "c".repeat(40)), "../../blobs"],
    ]) {
      cpSync(dir, commit, { recursive: true, verbatimSymlinks: true });
      rmSync(join(commit, "merges.txt"));
      symlinkSync(`${up}/${"a".repeat(40)}`, join(commit, "merges.txt"));
      const copied = exportFolder(join(folder, "to"), commit, AS_IT_IS);
      assert.equal(readFileSync(join(folder, "to", "merges.txt"), "utf8"), "{}");
      assert.ok(!copied.notes.some((note) => note.includes("merges.txt")));
    }
  }));

test("room on the disk is asked for first", (t) =>
  withFolder((folder) => {
    checkFreeSpace(join(folder, "a", "b"), 1);
    assert.throws(
      () => checkFreeSpace(join(folder, "a", "b"), 2 ** 60),
      /a\/b: \d+ TiB are needed, but only [\d.]+ [GT]iB are free on its disk\./,
    );
    const dir = source(folder, "qwen2_moe", "per-expert", "float32");
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=32k", "tmpfs", disk]);
    if (mounted.status !== 0) return t.skip("a small disk can be mounted by root alone");
    try {
      assert.throws(
        () => exportFolder(join(disk, "to"), dir, AS_IT_IS),
        (failure: Error) => {
          assert.ok(failure instanceof UserError, String(failure));
          assert.match(
            failure.message,
            /disk\/to: \d+(\.\d)? KiB are needed, but only 32\.0 KiB are free on its disk\. Free some space/,
          );
          return true;
        },
      );
      assert.deepEqual(readdirSync(disk), [], "nothing was begun");
    } finally {
      spawnSync("umount", [disk]);
    }
  }));

test("a model that does not fit its config.json is not exported", () =>
  withFolder((folder) => {
    const model = tinyModel("float32");
    write(join(folder, "source"), modelTensors(model, { layout: "per-expert" }).slice(1));
    freeModel(model);
    assert.throws(
      () => exportFolder(join(folder, "to"), join(folder, "source"), AS_IT_IS),
      /1 missing: model\.embed_tokens\.weight\./,
    );
    assert.equal(existsSync(join(folder, "to")), false);
  }));
