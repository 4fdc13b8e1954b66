import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { checkDrawing, writeDrawing } from "./drawing.js";

test("a drawing replaces a drawing, and nothing else; looking at its place changes nothing", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-drawing-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const at = (name: string): string => join(folder, name);
  const refused = (name: string, message: RegExp): void =>
    assert.throws(() => checkDrawing(at(name)), { name: "UserError", message });
  mkdirSync(at("a.svg"));
  for (const name of ["rows.jsonl", "config.json", "old.svg"]) writeFileSync(at(name), "mine");
  refused("rows.jsonl", /svg: .*rows\.jsonl exists and is no \.svg file, so it stays\. Choose another path\.$/);
  refused("config.json", /config\.json exists and is no/);
  refused("a.svg", /a\.svg is a folder/);
  refused("none/b.svg", /b\.svg cannot be written: there is no such folder/);
  refused("rows.jsonl/c.svg", /c\.svg cannot be written: /);
  checkDrawing(at("old.svg"));
  checkDrawing(at("new.svg"));
  assert.deepEqual(readdirSync(folder).sort(), ["a.svg", "config.json", "old.svg", "rows.jsonl"]);
  assert.equal(readFileSync(at("old.svg"), "utf8"), "mine");
  writeDrawing(at("old.svg"), "new");
  assert.equal(readFileSync(at("old.svg"), "utf8"), "new");
});
