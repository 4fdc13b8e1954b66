// What is written into generation_config.json, and what of it stays as it was.
import assert from "node:assert/strict";
import { test } from "node:test";

import { endIdsIn, withEndFirst } from "./end-ids.js";
import type { ModelFiles } from "./source.js";

const filesOf = (texts: Record<string, string>): ModelFiles => ({
  path: "m",
  readFile: (name) => (name in texts ? Buffer.from(texts[name]) : undefined),
});
const generation = (text: string, config = '{"eos_token_id": 3}'): ModelFiles =>
  filesOf({ "generation_config.json": text, "config.json": config });

test("the end that was trained goes first, the old ones behind it, and nothing else of the text changes", () => {
  const rest = '"temperature": 2.0,\n  "top_p": 1e-1,\n  "bos_token_id": 1';
  const cases: [before: string, after: string][] = [
    [`{\n  ${rest},\n  "eos_token_id": 3\n}\n`, `{\n  ${rest},\n  "eos_token_id": [7, 3]\n}\n`],
    [`{${rest}, "eos_token_id": [3, 7, 5]}`, `{${rest}, "eos_token_id": [7, 3, 5]}`],
    [`{"eos_token_id":null,${rest}}`, `{"eos_token_id": [7, 3],${rest}}`],
    [`{\n  ${rest}\n}`, `{\n  "eos_token_id": [7, 3],\n  ${rest}\n}`],
    ["{}", '{\n  "eos_token_id": [\n    7,\n    3\n  ]\n}\n'],
    ['{"note": "\\"eos_token_id\\": 3"}', '{\n  "eos_token_id": [7, 3],"note": "\\"eos_token_id\\": 3"}'],
  ];
  for (const [before, after] of cases) assert.equal(withEndFirst(generation(before), 7), after, before);
});

test("without the file, what transformers takes from config.json instead is kept", () => {
  const config = '{"vocab_size": 9, "bos_token_id": 1, "pad_token_id": 0, "eos_token_id": [3, 4]}';
  assert.deepEqual(JSON.parse(withEndFirst(filesOf({ "config.json": config }), 7) ?? ""), {
    bos_token_id: 1,
    pad_token_id: 0,
    eos_token_id: [7, 3, 4],
  });
  assert.deepEqual(JSON.parse(withEndFirst(filesOf({}), 7) ?? ""), { eos_token_id: [7] });
  assert.deepEqual(JSON.parse(withEndFirst(filesOf({}), 7, 2) ?? ""), { eos_token_id: [7, 2] });
  assert.deepEqual(JSON.parse(withEndFirst(generation("{}"), 7, 2) ?? ""), { eos_token_id: [7, 3] });
});

test("what says so already stays, and a damaged file is refused", () => {
  assert.equal(withEndFirst(generation('{"eos_token_id": [7, 3]}'), 7), undefined);
  assert.equal(withEndFirst(generation('{"eos_token_id": 7}'), 7), undefined);
  assert.equal(withEndFirst(filesOf({ "config.json": '{"eos_token_id": 7}' }), 7), undefined);
  assert.deepEqual(endIdsIn(generation('{"eos_token_id": [7, "x", null]}'), "generation_config.json"), [7]);
  assert.throws(() => withEndFirst(generation("{"), 7), {
    name: "UserError",
    message: /generation_config\.json: cannot be/,
  });
});
