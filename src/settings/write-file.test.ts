// A settings file that is written is read as what was meant, whatever is in it, and each line stands under what its row says.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";

import { readSettingsFile } from "./file.js";
import { resolveTable } from "./resolve.js";
import type { SettingRows } from "./table.js";
import { settingsFileText } from "./write-file.js";

const ROWS = {
  model: { kind: "string", required: true, about: "where it is; \n a name" },
  gamma: { kind: "number", default: -1 / 256, about: "how much stays" },
  steps: { kind: "integer", default: 0, about: `how many${" and so on".repeat(30)}` },
  names: { kind: "string", list: true, default: ["none"], about: "who" },
  packs: { kind: "boolean", default: true, about: "whether" },
} as const satisfies SettingRows;

test("what is written is what is read, and what is offered is not set", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "revmoe-write-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "a.yaml");
  const awkward = ["yes", "2024", "1e3", "a: b # c", "- x", "[1]", "'", '"', "~", "#x", "a\nmodel: b", "", " x "];
  fc.assert(
    fc.property(
      fc
        .oneof(
          fc.constantFrom(...awkward),
          fc.string(),
          fc
            .array(fc.constantFrom("yes", "x.jsonl", "a: b", "- a", "#c", " ", "...", "\t"))
            .map((all) => all.join("\n")),
        )
        .filter((text) => text !== ""),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.uniqueArray(fc.constantFrom("a", "b, c", "none", "two\nlines", "long".repeat(20)), { minLength: 1 }),
      fc.boolean(),
      (model, gamma, names, packs) => {
        const head = [`Trains ${model}`, "", "  a command"];
        writeFileSync(
          path,
          settingsFileText(ROWS, { head, settings: { model, gamma, names, packs }, offered: ["steps"] }),
        );
        const { settings, given } = resolveTable({ rows: ROWS }, { file: path });
        assert.deepEqual(settings, { model, gamma: gamma + 0, steps: 0, names, packs });
        assert.ok(!given.has("steps"));
        assert.equal(readSettingsFile(path).length, 4);
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

test("each setting takes one line, whatever breaks are in it", () => {
  for (const model of ["yes\nx.jsonl", "a\n\nb", "x\r\ny", "\nseed"]) {
    const names = [model, "b"];
    const text = settingsFileText(ROWS, { head: [], settings: { model, names }, offered: [] });
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    assert.deepEqual(
      lines.map((line) => line.split(":")[0]),
      ["model", "names"],
    );
  }
});

test("comments are the table's words, in short lines", () => {
  const text = settingsFileText(ROWS, { head: ["Head"], settings: { model: "x" }, offered: ["steps", "gamma"] });
  assert.match(text, /^# Head\n\n# where it is; +a name\nmodel: x\n\n# As they are by default/);
  assert.match(text, /\n# how much stays \(default -1\/256\)\n# gamma: -1\/256\n$/);
  for (const line of text.split("\n")) assert.ok(line.length <= 100, line);
});
