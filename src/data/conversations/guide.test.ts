// The rows of docs/data.md are read as the page says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { detectFormat, readSample } from "../conversation.js";
import { ROW_FORMATS } from "./row-kind.js";
import { unreadColumns } from "./registry.js";
import { FORMATS } from "../formats/registry.js";

const page = readFileSync(fileURLToPath(new URL("../../../docs/data.md", import.meta.url)), "utf8");

test("each row in the guide is of the kind it stands under, and is read whole", () => {
  const seen = new Set<string>();
  let under = "messages";
  for (const [, name, block] of page.matchAll(/^`(\w+)`:|```jsonl\n([\s\S]*?)```/gm)) {
    if (name !== undefined) under = name;
    for (const line of block?.trim().split("\n") ?? []) {
      const row = { value: JSON.parse(line) as Record<string, unknown>, place: "docs/data.md" };
      const format = detectFormat([row], "auto");
      if (seen.size < ROW_FORMATS.length) assert.equal(format, under, line);
      readSample(row, format);
      assert.deepEqual(unreadColumns(row.value, format), [], line);
      seen.add(format);
    }
  }
  assert.deepEqual([...seen].sort(), [...ROW_FORMATS].sort());
});

test("the guide names every format of files with its endings", () => {
  for (const { name, endings } of FORMATS) {
    assert.match(page, new RegExp(`^\\| .*\`${name}\``, "m"));
    for (const ending of endings) assert.ok(page.includes(`${ending} `) || page.includes(`${ending};`), ending);
  }
});
