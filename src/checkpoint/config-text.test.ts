// Which key gets the dtype, and when the source's text can be kept.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { configText, olderKeys } from "./config-text.js";
import { folderFiles } from "./source.js";
import { withFolder } from "./testing-model.js";

test("the key that the source uses gets the dtype, torch_dtype when it uses none", () =>
  withFolder((folder) => {
    for (const [text, expected] of [
      ['{"a": 1.0, "torch_dtype": "float32"}', '{"a": 1.0, "torch_dtype": "bfloat16"}'],
      ['{"dtype":null, "a": 1.0}', '{"dtype":"bfloat16", "a": 1.0}'],
      ['{"dtype": "x", "torch_dtype": "y"}', '{"dtype": "bfloat16", "torch_dtype": "bfloat16"}'],
      ['{"a": 1.0}\n', '{"a": 1.0,\n  "torch_dtype": "bfloat16"\n}\n'],
    ]) {
      writeFileSync(join(folder, "config.json"), text);
      assert.equal(configText(folderFiles(folder), JSON.parse(text) as Record<string, unknown>, "bfloat16"), expected);
    }
  }));

test("a nested dtype is left alone, and a source that differs from the text is written out", () =>
  withFolder((folder) => {
    const nested = { inner: { dtype: "int4" }, dtype: "float32" };
    writeFileSync(join(folder, "config.json"), JSON.stringify(nested));
    assert.deepEqual(JSON.parse(configText(folderFiles(folder), nested, "bfloat16")), {
      inner: { dtype: "int4" },
      dtype: "bfloat16",
    });
    assert.equal(
      configText(folderFiles(folder), { other: 1 }, "float32"),
      '{\n  "other": 1,\n  "torch_dtype": "float32"\n}\n',
    );
    assert.equal(configText(folderFiles(join(folder, "none")), {}, "float32"), '{\n  "torch_dtype": "float32"\n}\n');
  }));

test("keys are added behind the source's own text, and real numbers keep their point", () =>
  withFolder((folder) => {
    const text = '{\n  "dtype": "float32",\n  "eps": 1e-06\n}\n';
    writeFileSync(join(folder, "config.json"), text);
    const added = {
      rope_theta: 10000,
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32, truncate: false },
    };
    assert.equal(
      configText(folderFiles(folder), JSON.parse(text) as Record<string, unknown>, "float32", added),
      '{\n  "dtype": "float32",\n  "eps": 1e-06,\n  "rope_theta": 10000.0,\n  "rope_scaling": { "rope_type": "yarn", "factor": 4.0, ' +
        '"original_max_position_embeddings": 32, "truncate": false }\n}\n',
    );
  }));

test("a block whose type has the older name is exchanged in its place", () =>
  withFolder((folder) => {
    const text =
      '{\n  "eps": 1e-06,\n  "rope_scaling": {\n    "type": "linear",\n    "factor": 2.0\n  },\n  "dtype": "float32"\n}\n';
    writeFileSync(join(folder, "config.json"), text);
    const source = JSON.parse(text) as Record<string, unknown>;
    assert.equal(
      configText(folderFiles(folder), source, "float32", olderKeys(source)),
      '{\n  "eps": 1e-06,\n  "rope_scaling": { "rope_type": "linear", "type": "linear", "factor": 2.0 },\n  "dtype": "float32"\n}\n',
    );
  }));

test("what transformers 4 needs beside the keys of transformers 5, and nothing where it is there", () => {
  const rope = { rope_theta: 1e6, rope_type: "linear", factor: 2 };
  assert.deepEqual(olderKeys({ model_type: "qwen3_moe", num_local_experts: 5, rope_parameters: rope }), {
    num_experts: 5,
    rope_theta: 1e6,
    rope_scaling: { rope_type: "linear", factor: 2 },
  });
  assert.deepEqual(olderKeys({ model_type: "mixtral", num_experts: 5 }), { num_local_experts: 5 });
  assert.deepEqual(
    olderKeys({ model_type: "olmoe", num_experts: 5, rope_parameters: { rope_theta: 10, rope_type: "default" } }),
    {
      rope_theta: 10,
      rope_scaling: null,
    },
  );
  const partial = { rope_theta: 10, rope_type: "default", partial_rotary_factor: 0.5 };
  assert.deepEqual(olderKeys({ model_type: "glm4_moe", n_routed_experts: 5, rope_parameters: partial }), {
    rope_theta: 10,
    rope_scaling: null,
    partial_rotary_factor: 0.5,
  });
  assert.deepEqual(olderKeys({ model_type: "granitemoe", num_local_experts: 5 }), {});
  const longrope = { rope_type: "longrope", original_max_position_embeddings: 16 };
  assert.deepEqual(olderKeys({ rope_parameters: longrope, num_experts: 1 }), {
    rope_scaling: longrope,
    original_max_position_embeddings: 16,
  });
  // Blocks in the older dialect, as some files have them: GLM's share is looked for at the top, Granite's type under its newer name.
  const shared = { rope_type: "yarn", factor: 4, partial_rotary_factor: 0.75 };
  assert.deepEqual(olderKeys({ rope_scaling: shared }), { partial_rotary_factor: 0.75 });
  assert.deepEqual(olderKeys({ rope_scaling: shared, partial_rotary_factor: 0.75 }), {});
  assert.deepEqual(olderKeys({ rope_scaling: { type: "linear", factor: 2 }, rope_theta: 10 }), {
    rope_scaling: { rope_type: "linear", type: "linear", factor: 2 },
  });
  for (const old of [
    { rope_theta: 1e4, rope_scaling: null, num_experts: 5 },
    { rope_parameters: rope, rope_scaling: rope },
    {},
  ]) {
    assert.deepEqual(olderKeys(old), {});
  }
});
