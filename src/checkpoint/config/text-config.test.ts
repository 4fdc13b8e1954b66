// Settings of a text model at the top of config.json or under text_config: read, and changed where they are, also in files.
import assert from "node:assert/strict";
import { test } from "node:test";

import { atDepth } from "../../compare/depth.js";
import { configText, statedDtype } from "../config-text.js";
import { endIdsIn } from "../end-ids.js";
import type { ModelFiles } from "../model-files.js";
import { textConfig, withTextConfig } from "./text-config.js";

const TEXT = { vocab_size: 80, num_hidden_layers: 2, layer_types: ["a", "b"], eos_token_id: 7, dtype: "bfloat16" };
const NESTED = { model_type: "sees", text_config: TEXT, vision_config: { depth: 3, dtype: "bfloat16" } };
const filesOf = (config: object): ModelFiles => ({
  path: "model",
  readFile: (name) => (name === "config.json" ? Buffer.from(JSON.stringify(config, null, 2)) : undefined),
});

test("the settings of the text model are where the file has them", () => {
  assert.deepEqual(textConfig(NESTED), TEXT);
  assert.deepEqual(textConfig(TEXT), TEXT);
  for (const text_config of [null, [TEXT], "text", 3]) assert.deepEqual(textConfig({ text_config }), { text_config });
  assert.deepEqual(withTextConfig(TEXT, { vocab_size: 81 }), { ...TEXT, vocab_size: 81 });
  const changed = withTextConfig(NESTED, { vocab_size: 81 });
  assert.deepEqual(changed, { ...NESTED, text_config: { ...TEXT, vocab_size: 81 } });
  assert.equal(NESTED.text_config.vocab_size, 80);
});

test("dtype, end tokens and depth of a model that sees are those of its text model", () => {
  assert.equal(statedDtype(NESTED), "bfloat16");
  assert.equal(statedDtype({ ...NESTED, dtype: "float32" }), "float32");
  assert.deepEqual(endIdsIn(filesOf(NESTED), "config.json"), [7]);
  assert.deepEqual(endIdsIn(filesOf({ ...NESTED, eos_token_id: [5, 6] }), "config.json"), [5, 6]);
  assert.deepEqual(atDepth(NESTED, 5), {
    ...NESTED,
    text_config: { ...TEXT, num_hidden_layers: 5, layer_types: ["a", "b", "a", "b", "a"] },
  });
});

test("a saved config.json says the dtype of the text model where it said one", () => {
  const saved = (config: Record<string, unknown>): Record<string, unknown> =>
    JSON.parse(configText(filesOf(config), config, "float32")) as Record<string, unknown>;
  assert.deepEqual(saved(NESTED), { ...NESTED, text_config: { ...TEXT, dtype: "float32" }, torch_dtype: "float32" });
  const { dtype: _, ...silent } = TEXT;
  assert.deepEqual(saved({ ...NESTED, text_config: silent, dtype: "bfloat16" }), {
    ...NESTED,
    text_config: silent,
    dtype: "float32",
  });
});
