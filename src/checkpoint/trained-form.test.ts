// The classes that a folder as trained names are those of export/modeling_revmoe.py, family by family.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { FAMILIES } from "../families/registry.js";
import { familyConfig, trainedConfig } from "./trained-form.js";

const CODE = readFileSync(new URL("../../export/modeling_revmoe.py", import.meta.url), "utf8");
const LISTED = [...CODE.matchAll(/^ {4}"(\w+)": "(\w+)",$/gm)].map(([, family, stem]) => [family, stem]);

test("each family there is one here, under the same name, and reads back as its own", () => {
  assert.ok(LISTED.length > 4);
  for (const [family, stem] of LISTED) {
    assert.ok(FAMILIES.some(({ modelType }) => modelType === family));
    const { config, addedKeys } = trainedConfig({ model_type: family, hidden_size: 8 }, { coupling: "momentum" });
    assert.deepEqual(config.architectures, [`RevMoe${stem}ForCausalLM`]);
    assert.deepEqual(familyConfig({ ...config, ...addedKeys }), {
      model_type: family,
      hidden_size: 8,
      architectures: [`${stem}ForCausalLM`],
    });
  }
});

test("a family without classes there is refused by name", () => {
  for (const family of ["bloom", "toString", "revmoe_mixtral"]) {
    assert.throws(() => trainedConfig({ model_type: family }, {}), {
      name: "UserError",
      message: new RegExp(
        `^as: trained is not possible for "${family}" \\(expected qwen2_moe, .*\\)\\. Set as to ordinary\\.$`,
      ),
    });
  }
});
