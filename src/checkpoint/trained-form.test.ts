// The classes that a folder as trained names extend those of transformers, and its config.json reads back as the family's own.
import assert from "node:assert/strict";
import { test } from "node:test";

import { FAMILIES } from "../families/registry.js";
import { familyConfig, trainedConfig } from "./trained-form.js";

test("every family reads back as its own", () => {
  for (const { modelType, classes } of FAMILIES) {
    const source = { model_type: modelType, hidden_size: 8 };
    const { config, addedKeys } = trainedConfig(source, { coupling: "momentum" });
    assert.deepEqual(config, {
      ...source,
      model_type: `revmoe_${modelType}`,
      architectures: [`RevMoe${classes.model}`],
    });
    assert.deepEqual(familyConfig({ ...config, ...addedKeys }), { ...source, architectures: [classes.model] });
    assert.deepEqual(familyConfig(source), source);
  }
});

test("classes are named as transformers names them, and loaded from the code beside the weights", () => {
  const mapOf = (model_type: string): unknown => trainedConfig({ model_type }, {}).addedKeys.auto_map;
  const code = (name: string): string => `modeling_revmoe.RevMoe${name}`;
  for (const [family, config, model] of [
    ["mixtral", "MixtralConfig", "MixtralForCausalLM"],
    ["ernie4_5_moe", "Ernie4_5_MoeConfig", "Ernie4_5_MoeForCausalLM"],
    ["qwen3_5_moe_text", "Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM"],
  ])
    assert.deepEqual(mapOf(family), { AutoConfig: code(config), AutoModelForCausalLM: code(model) });
  const seeing = code("Qwen3_5MoeForConditionalGeneration");
  assert.deepEqual(mapOf("qwen3_5_moe"), {
    AutoConfig: code("Qwen3_5MoeConfig"),
    AutoModelForCausalLM: seeing,
    AutoModelForImageTextToText: seeing,
  });
});

test("what is no family is refused by name", () => {
  for (const family of ["bloom", "toString", "revmoe_mixtral"])
    assert.throws(() => trainedConfig({ model_type: family }, {}), {
      name: "UserError",
      message: new RegExp(`^config\\.json: model_type is "${family}" \\(expected qwen2_moe, .*\\)\\.`),
    });
});
