// Folders that transformers 4 and 5 saved (test/golden/make_saved.py): both layouts and dialects, three dtypes, one file
// and shards, of every family. They give the logits of transformers, and an export of them does too; changed so that
// something in them is unknown, they are refused by its name.
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "../../errors.js";
import { fullLogits } from "../../generate/testing-network.js";
import { freeModel, placedWeights } from "../../model/model.js";
import { ordinary } from "../../reversible/couplings/ordinary.js";
import { floatStreams } from "../../reversible/streams.js";
import { setThreads } from "../../torch/device.js";
import { ledger } from "../../torch/memory.js";
import { scope } from "../../torch/scope.js";
import { dtype, toArray } from "../../torch/tensor.js";
import { exportFolder } from "../export.js";
import { openFolder, readConfig } from "../folder.js";
import { loadModel } from "../load.js";
import { openSafetensors } from "../safetensors/file.js";
import { withFolder, writeRaw } from "../testing-model.js";
import { deviceStore } from "../../store/device.js";

setThreads(1);

const SAVED = fileURLToPath(new URL("../../../test/golden/saved", import.meta.url));
/** Families that transformers 4 has too; gpt-oss has its experts fused there already. */
const OLDER = [
  ...[
    "qwen2_moe",
    "qwen3_moe",
    "mixtral",
    "olmoe",
    "granitemoe",
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe",
    "ernie4_5_moe",
  ],
  ...["gpt_oss", "qwen3_next", "dots1"],
];
const NEWER = ["minimax_m2", "glm4_moe_lite", "solar_open", "qwen3_5_moe_text"];
const NAMES = readdirSync(SAVED).sort();

function logitsOf(folder: string, tokens: number[]): number[] {
  const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
  const logits = fullLogits(
    {
      model,
      coupling: ordinary,
      format: floatStreams("float32"),
      computeDtype: "float32",
      device: "cpu",
      store: deviceStore("cpu"),
      lossTileTokens: 16,
    },
    tokens,
  );
  freeModel(model);
  return logits.flat();
}

function relativeError(actual: number[], expected: number[]): number {
  assert.equal(actual.length, expected.length);
  const norm = (values: number[]): number => Math.hypot(...values);
  return norm(expected.map((value, i) => value - actual[i])) / norm(expected);
}

test("the folders cover every family in both layouts, dialects, three dtypes, one file and shards", () => {
  const seen = NAMES.map((name) => {
    const folder = openFolder(join(SAVED, name));
    folder.close();
    const { config } = readConfig(join(SAVED, name));
    const fused = [...folder.tensors.keys()].some((tensor) => tensor.endsWith(".experts.gate_up_proj"));
    const dialect = ["torch_dtype", "dtype", "rope_scaling", "rope_theta", "rope_parameters"].filter(
      (key) => key in config,
    );
    const types = new Set([...folder.tensors.values()].map((entry) => entry.dtype));
    const shards = readdirSync(join(SAVED, name)).filter((file) => file.startsWith("model-")).length;
    return [
      config.model_type,
      fused ? "fused" : "per-expert",
      dialect.join(),
      [...types].join(),
      shards > 1 ? "shards" : "one file",
    ].join(" ");
  });
  const older = "torch_dtype,rope_scaling,rope_theta";
  const newer = "dtype,rope_parameters";
  assert.deepEqual(
    seen.sort(),
    [
      ...OLDER.map((family) => `${family} ${family === "gpt_oss" ? "fused" : "per-expert"}`).flatMap((kind) => [
        `${kind} ${older} bfloat16 shards`,
        `${kind} ${older} float16 one file`,
      ]),
      ...[...OLDER, ...NEWER].flatMap((family) => [
        `${family} fused ${newer} float32 shards`,
        `${family} fused ${newer} bfloat16 one file`,
      ]),
    ].sort(),
  );
});

for (const name of NAMES) {
  test(`${name}: the logits of transformers, loaded and exported`, () =>
    withFolder((work) => {
      const source = join(SAVED, name);
      const golden = openSafetensors(join(source, "golden.safetensors"));
      const [tokens, expected] = scope(() => ["input_ids", "logits"].map((tensor) => toArray(golden.read(tensor))));
      golden.close();
      // Float32 sums in another order differ near 1e-7.
      assert.ok(relativeError(logitsOf(source, tokens), expected) < 1e-5);
      const onDisk = name.split("-")[2];
      const model = loadModel(source, { weightsDtype: "auto", device: "cpu" });
      const { architecture, outer, blocks } = model;
      const types = new Set(
        placedWeights(architecture).map(({ layer, spec }) => dtype((layer < 0 ? outer : blocks[layer])[spec.name])),
      );
      assert.deepEqual([...types], [onDisk === "bfloat16" ? "bfloat16" : "float32"], "float16 is widened");
      freeModel(model);
      for (const layout of ["per-expert", "fused"] as const) {
        const to = join(work, layout);
        assert.equal(exportFolder(to, source, { layout, dtype: "auto", maxShardBytes: 5000 }).dtype, onDisk);
        assert.deepEqual(logitsOf(to, tokens), logitsOf(source, tokens));
      }
    }));
}

/** Each family's newest folder in one file, copied and then changed. */
function refuses(family: string, change: (folder: string) => void, pattern: RegExp): void {
  withFolder((work) => {
    const folder = join(work, "model");
    cpSync(join(SAVED, `${family}-5-bfloat16`), folder, { recursive: true });
    change(folder);
    const before = ledger();
    for (const open of [
      () => void loadModel(folder, { weightsDtype: "auto", device: "cpu" }),
      () => void exportFolder(join(work, "to"), folder, { layout: "fused", dtype: "auto", maxShardBytes: 1e9 }),
    ]) {
      assert.throws(open, (failure: Error) => {
        assert.ok(failure instanceof UserError, String(failure));
        assert.match(failure.message, pattern);
        assert.match(failure.message, /^[^\n]+\.$/);
        return true;
      });
    }
    assert.deepEqual(
      [ledger().tensors, ledger().mappedBytes, readdirSync(work)],
      [before.tensors, before.mappedBytes, ["model"]],
    );
  });
}

const inConfig =
  (changes: Record<string, unknown>) =>
  (folder: string): void => {
    const path = join(folder, "config.json");
    writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), ...changes }));
  };

const inHeader =
  (from: string, to: string) =>
  (folder: string): void => {
    const path = join(folder, "model.safetensors");
    const bytes = readFileSync(path);
    const end = 8 + Number(bytes.readBigUInt64LE());
    const header = bytes.subarray(8, end).toString();
    assert.ok(header.includes(from));
    writeRaw(path, header.replace(from, to), bytes.subarray(end));
  };

for (const family of ["qwen2_moe", "qwen3_moe", "mixtral", "olmoe"]) {
  test(`${family}: an unknown architecture, rope type, dtype, quantisation or tensor is refused by its name`, () => {
    refuses(family, inConfig({ model_type: "llama4" }), /config\.json: model_type is "llama4" \(expected qwen2_moe, /);
    refuses(
      family,
      inConfig({ rope_parameters: { rope_type: "proportional", rope_theta: 1 } }),
      /config\.json: rope_parameters: rope type "proportional" is not supported \(expected default, linear, /,
    );
    refuses(
      family,
      inConfig({ rope_scaling: { type: "mrope" } }),
      /config\.json: rope_scaling: rope type "mrope" is not supported/,
    );
    refuses(
      family,
      inHeader('"BF16"', '"F8_E5M2"'),
      /model\.safetensors: \S+: dtype "F8_E5M2" is not supported \(expected F64, F32, /,
    );
    refuses(
      family,
      inHeader('"BF16"', '"I16"'),
      /1 unfit: \S+: int16 in the checkpoint \(expected float32, bfloat16, float16, float64\)\./,
    );
    refuses(
      family,
      inConfig({ quantization_config: { quant_method: "gptq", bits: 4 } }),
      /config\.json: quantization_config says the weights are quantised \(gptq\), .* Convert the model to bfloat16 first\./,
    );
    refuses(
      family,
      inHeader("layers.1.mlp.experts.down_proj", "layers.1.mlp.experts.low_proj"),
      /3 missing: model\.layers\.1\.\S+experts\.0\.(down_proj|w2)\.weight; .* 1 extra: model\.layers\.1\.mlp\.experts\.low_proj\. Check that both/,
    );
  });
}
