// Whole models: a GGUF file gives the weights and settings of the Hugging Face folder it was made from; stacked experts,
// several files, and what is refused.
import assert from "node:assert/strict";
import { cpSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { freeModel } from "../../model/model.js";
import { ledger } from "../../torch/memory.js";
import { cast } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { fromArray, toArray } from "../../torch/tensor.js";
import { loadModel } from "../load.js";
import { openSafetensors } from "../safetensors/file.js";
import { openSource } from "../source.js";
import { differences, withFolder } from "../testing-model.js";
import { sameBits } from "../verify.js";
import { readGgufConfig } from "./config.js";
import { dequantize } from "./dequantize.js";
import { readHeader } from "./header.js";
import { EMBEDDING, floats, GOLDEN, golden, LLAMA, type RawTensor, writeGguf } from "./testing-gguf.js";
import { TYPES } from "./types.js";

const BFLOAT16 = { weightsDtype: "bfloat16", device: "cpu" } as const;

for (const name of ["hf-tiny", "qwen3-plain", "mixtral-window", "olmoe-plain"]) {
  test(`${name}: weights and settings are those of the folder it was made from`, () => {
    const from = openSource(golden(`${name}.gguf`));
    const [folder, file] = [loadModel(`${GOLDEN}/${name}`, BFLOAT16), loadModel(from, BFLOAT16)];
    assert.deepEqual(differences(file, folder), []);
    assert.equal(
      JSON.stringify({ ...file.architecture, source: 0, initializerRange: 0 }),
      JSON.stringify({ ...folder.architecture, source: 0, initializerRange: 0 }),
    );
    const text = Buffer.from(from.readFile("config.json") as Uint8Array).toString();
    assert.deepEqual(JSON.parse(text), from.config);
    assert.match(text, /"rope_theta": \d+\.0,/);
    freeModel(folder);
    freeModel(file);
  });
}

test("where the file does not say whether gates are rescaled, its family does", () => {
  const norm = (name: string): unknown => {
    const header = readHeader(golden(name));
    delete header.metadata[`${String(header.metadata["general.architecture"])}.expert_weights_norm`];
    return readGgufConfig(header).config.norm_topk_prob;
  };
  assert.deepEqual(["hf-tiny.gguf", "qwen3-plain.gguf", "olmoe-plain.gguf"].map(norm), [false, true, false]);
});

const DENSE: Record<string, object> = {
  llama: {
    model_type: "llama",
    head_dim: 8,
    attention_bias: true,
    tie_word_embeddings: true,
    rope_theta: 500_000,
    rope_scaling: {
      rope_type: "llama3",
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
  },
  qwen2: {
    model_type: "qwen2",
    head_dim: 4,
    tie_word_embeddings: false,
    rope_theta: 10_000,
    rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16, beta_fast: 32, beta_slow: 1 },
  },
  qwen3: { model_type: "qwen3", head_dim: 8, tie_word_embeddings: true, rope_scaling: null },
};
for (const [name, facts] of Object.entries(DENSE)) {
  test(`dense ${name}: tensors by their Hugging Face names, and the config that belongs to them`, () => {
    const { config, openWeights } = openSource(golden(`dense-${name}.gguf`));
    assert.deepEqual({ ...config, ...facts }, config);
    const { vocab_size, hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, rms_norm_eps } =
      config;
    assert.deepEqual(
      [vocab_size, hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, rms_norm_eps],
      [16, 16, 24, 4, 2, 1e-6],
    );
    const expected = openSafetensors(golden(`dense-${name}.safetensors`));
    const weights = openWeights();
    assert.deepEqual([...weights.tensors.keys()].sort(), [...expected.entries.keys()].sort());
    for (const key of expected.entries.keys())
      scope(() => assert.ok(sameBits(cast(weights.read(key), "float32"), expected.read(key)), key));
    weights.close();
    expected.close();
  });
}

test("an expert of a quantised stack is read alone; names that are not known are kept; nothing stays open", () =>
  withFolder((folder) => {
    const before = ledger().mappedBytes;
    const data = Uint8Array.from({ length: 2 * 3 * 34 }, (_, i) => (i % 34 === 1 ? 44 : i * 7));
    const tensors: RawTensor[] = [
      EMBEDDING,
      { name: "blk.0.ffn_up_exps.weight", dimensions: [32, 3, 2], type: 8, data },
      floats("blk.0.ffn_gate.1.weight", [2, 1], [5, 6]),
      floats("blk.0.new_thing.weight", [1], [1]),
    ];
    const path = join(folder, "m.gguf");
    writeGguf(path, { metadata: { ...LLAMA, "llama.expert_count": 2, "llama.expert_used_count": 1 }, tensors });
    const weights = openSource(path).openWeights();
    const names = ["w3.weight", "w3.weight"].map((name, i) => `model.layers.0.block_sparse_moe.experts.${i}.${name}`);
    assert.deepEqual(
      [...weights.tensors.keys()],
      [
        "model.embed_tokens.weight",
        ...names,
        "model.layers.0.block_sparse_moe.experts.1.w1.weight",
        "blk.0.new_thing.weight",
      ],
    );
    scope(() => {
      for (const [expert, name] of names.entries()) {
        const [begin, end] = [expert * 3 * 34, (expert + 1) * 3 * 34];
        assert.ok(
          sameBits(
            weights.read(name),
            dequantize(fromArray(data, [data.length], "uint8"), { begin, end }, TYPES[8], [3, 32]),
          ),
          name,
        );
      }
      assert.deepEqual(toArray(weights.read("model.layers.0.block_sparse_moe.experts.1.w1.weight")), [5, 6]);
    });
    weights.close();
    assert.equal(ledger().mappedBytes, before);
  }));

test("several files of one model are opened by the first", () =>
  withFolder((folder) => {
    const path = (part: number): string => join(folder, `m-0000${part}-of-00002.gguf`);
    const split = { "split.count": 2, "split.tensors.count": 2 };
    writeGguf(path(1), { metadata: { ...LLAMA, ...split, "split.no": 0 }, tensors: [EMBEDDING] });
    writeGguf(path(2), { metadata: { ...split, "split.no": 1 }, tensors: [floats("output_norm.weight", [2], [7, 8])] });
    const weights = openSource(path(1)).openWeights();
    scope(() => assert.deepEqual(toArray(weights.read("model.norm.weight")), [7, 8]));
    weights.close();
    refuses(
      () => openSource(path(2)),
      /-00002-of-00002\.gguf: is one of 2 files of a model \(expected the first, whose name ends in -00001-of-00002\.gguf\)\.$/,
    );
    writeGguf(path(2), { metadata: split, tensors: [] });
    refuses(() => openSource(path(1)), /its 2 files have 1 tensors together \(expected 2\)/);
    writeGguf(path(1), { metadata: { ...LLAMA, "split.count": 3 } });
    refuses(
      () => openSource(path(1)),
      /is one of 3 files of a model \(expected the first, whose name ends in -00001-of-00003\.gguf\)/,
    );
    cpSync(path(1), join(folder, "m-00001-of-00003.gguf"));
    refuses(
      () => openSource(join(folder, "m-00001-of-00003.gguf")),
      /its part .*m-00002-of-00003\.gguf is missing\. Download it/,
    );
  }));

function refuses(act: () => unknown, message: RegExp): void {
  assert.throws(act, (failure: Error) => {
    assert.equal(failure.name, "UserError");
    assert.match(failure.message, message);
    assert.equal(failure.message.split("\n").length, 1);
    return true;
  });
}

test("files that are damaged, cut off or of another kind are refused by what is wrong with them", () =>
  withFolder((folder) => {
    const path = join(folder, "m.gguf");
    const opening = (file: Parameters<typeof writeGguf>[1], message: RegExp): void => {
      writeGguf(path, file);
      refuses(() => openSource(path), message);
    };
    refuses(() => openSource(path), /m\.gguf: no such file\.$/);
    opening({ magic: "GGML" }, /m\.gguf: begins with "GGML" \(expected "GGUF"\)/);
    writeFileSync(path, "GG");
    refuses(() => openSource(path), /begins with "" \(expected "GGUF"\)/);
    opening({ version: 1 }, /GGUF version 1 is not supported \(expected 2 or 3\)/);
    opening({ version: 9 }, /GGUF version 9 is not supported/);
    opening({ version: 3 << 24 }, /is a big-endian GGUF file \(expected little-endian\)/);
    opening(
      { metadata: { ...LLAMA, "general.alignment": 0 } },
      /"general\.alignment" is 0 \(expected a whole number of bytes\)/,
    );
    const odd = (change: Partial<RawTensor>): RawTensor[] => [
      EMBEDDING,
      { ...floats("x.weight", [32], new Float32Array(32)), ...change },
    ];
    opening(
      { metadata: LLAMA, tensors: odd({ type: 16 }) },
      /: x\.weight: type IQ2_XXS is not supported \(expected F32, F16, Q4_0, .*BF16\)/,
    );
    opening({ metadata: LLAMA, tensors: odd({ type: 99 }) }, /: x\.weight: type number 99 is not supported/);
    opening(
      { metadata: LLAMA, tensors: odd({ dimensions: [33], type: 8 }) },
      /rows of 33 are no whole number of Q8_0 blocks of 32/,
    );
    opening(
      { metadata: LLAMA, tensors: odd({ dimensions: [1, 1, 1, 1, 1] }) },
      /x\.weight has 5 dimensions \(expected at most 4\)/,
    );
    opening({ metadata: LLAMA, tensors: odd({ offset: 64 }) }, /x\.weight overlaps the tensor before it/);
    opening(
      { metadata: LLAMA, tensors: odd({ dimensions: [2 ** 40] }) },
      /the file is cut off: x\.weight ends at byte \d+ of \d+/,
    );
    opening({ metadata: LLAMA, tensors: [EMBEDDING, EMBEDDING] }, /two tensors are called token_embd\.weight/);

    // Cut anywhere, a file says so, be it in the header or in the data.
    const whole = golden("dense-llama.gguf");
    const { length } = readFileSync(whole);
    for (const kept of [20, 100, 700, 3000, length - 40]) {
      cpSync(whole, path);
      truncateSync(path, kept);
      refuses(() => openSource(path), /m\.gguf: the file is cut off/);
    }
    // A list that is longer than the file is not begun.
    const bytes = readFileSync(golden("bpe.gguf"));
    bytes.writeBigUInt64LE(2n ** 40n, bytes.indexOf("tokenizer.ggml.tokens") + "tokenizer.ggml.tokens".length + 8);
    writeFileSync(path, bytes);
    refuses(() => openSource(path), /"tokenizer\.ggml\.tokens" has 1099511627776 elements by its header/);
  }));

test("what the metadata lack, or say of another network, is refused", () =>
  withFolder((folder) => {
    const path = join(folder, "m.gguf");
    const opening = (
      metadata: Parameters<typeof writeGguf>[1]["metadata"],
      message: RegExp,
      tensors = [EMBEDDING],
    ): void => {
      writeGguf(path, { metadata, tensors });
      refuses(() => openSource(path), message);
    };
    opening({}, /"general\.architecture" is missing \(expected llama, qwen2, qwen3, qwen2moe, qwen3moe, olmoe\)/);
    opening(
      { "general.architecture": "mamba" },
      /"general\.architecture" is "mamba" .*This architecture is not supported/,
    );
    const { "llama.block_count": _, ...without } = LLAMA;
    opening(without, /m\.gguf: "llama\.block_count" is missing \(expected a whole number of at least 1\)/);
    opening(
      { ...LLAMA, "llama.attention.head_count": [2, 2] },
      /"llama\.attention\.head_count" is \[2,2\] \(expected a whole number/,
    );
    opening(LLAMA, /the tensor token_embd\.weight is missing/, []);
    opening(
      { ...LLAMA, "llama.rope.dimension_count": 2 },
      /"llama\.rope\.dimension_count" is 2 \(expected 4; other values are not supported\)/,
    );
    opening({ ...LLAMA, "llama.logit_scale": 0.5 }, /"llama\.logit_scale" is 0\.5 \(expected 0 or 1; other values/);
    opening(
      { ...LLAMA, "llama.rope.scaling.type": "longrope" },
      /rope scaling "longrope" is not supported \(expected none, linear or yarn\)/,
    );
    const factors = floats("rope_freqs.weight", [2], [1, 3]);
    opening(LLAMA, /rope_freqs\.weight is not the scaling of Llama 3\.1/, [EMBEDDING, factors]);
    const source = (): unknown => openSource(path).config.rope_scaling;
    writeGguf(path, { metadata: LLAMA, tensors: [EMBEDDING, floats("rope_freqs.weight", [2], [1, 1])] });
    assert.equal(source(), null);

    // A model that is none of ours says so as a folder does; a tensor that is missing or not known is named.
    const { config, configPath } = openSource(path);
    refuses(() => readArchitecture(config, configPath), /m\.gguf: model_type is "llama" \(expected qwen2_moe/);
    writeGguf(path, {
      metadata: { ...LLAMA, "llama.expert_count": 2, "llama.expert_used_count": 1 },
      tensors: [EMBEDDING, floats("blk.0.attn_sinks.weight", [1], [1])],
    });
    refuses(
      () => loadModel(path, BFLOAT16),
      /m\.gguf: the weights do not fit config\.json\. \d+ missing: model\.layers\.0\.input_layernorm\.weight; .* 1 extra: blk\.0\.attn_sinks\.weight/,
    );
  }));
