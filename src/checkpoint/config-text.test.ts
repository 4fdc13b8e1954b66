// Which key gets the dtype, and when the source's text can be kept.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { configText } from "./config-text.js";
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
    assert.equal(configText(folderFiles(folder), { other: 1 }, "float32"), '{\n  "other": 1,\n  "torch_dtype": "float32"\n}\n');
    assert.equal(configText(folderFiles(join(folder, "none")), {}, "float32"), '{\n  "torch_dtype": "float32"\n}\n');
  }));
