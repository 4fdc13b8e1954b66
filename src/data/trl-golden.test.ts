// The same ids and labels as TRL's SFTTrainer makes of the same rows (test/golden/make_trl.py): conversations with several
// turns, tools and calls, prompts with completions as messages and as texts, and texts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { detectFormat, readSample } from "./conversation.js";
import { encodeSample } from "./encode.js";
import { parseJsonRow } from "./json-values.js";
import { folderOf } from "./tokenizer/testing-tokenizer.js";
import { loadTokenizer } from "./tokenizer/tokenizer.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const text = (path: string): string => readFileSync(join(GOLDEN, path), "utf8");

interface Made {
  /** As in a file. */
  row: string;
  ids: number[];
  trained: [number, number][];
  merged: boolean;
}
const golden = JSON.parse(text("templates/trl.json")) as Record<string, Made[]>;

function runsOf(flags: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (const [i, flag] of flags.entries()) {
    if (flag === 1 && flags[i - 1] !== 1) runs.push([i, i]);
    if (flag === 1) runs[runs.length - 1][1] = i + 1;
  }
  return runs;
}

for (const [template, rows] of Object.entries(golden)) {
  test(`${template}: ${rows.length} rows have the ids and labels of TRL`, (t) => {
    const family = template.startsWith("qwen") ? "qwen" : template === "mixtral" ? "mixtral" : "olmoe";
    const tokenizer = loadTokenizer(
      folderOf(t, {
        "tokenizer.json": text(`tokenizers/${family}/tokenizer.json`),
        "tokenizer_config.json": text(`tokenizers/${family}/tokenizer_config.json`),
        "chat_template.jinja": text(`templates/${template}.jinja`),
      }),
    );
    assert.equal(rows.length, 35);
    for (const { row, ids, trained, merged } of rows) {
      const value = parseJsonRow(row) as Record<string, unknown>;
      if (typeof value.tools === "string") value.tools = parseJsonRow(value.tools);
      const read = { value, place: row };
      const sample = readSample(read, detectFormat([read], "auto"));
      const settings = { assistant_only_loss: true, completion_only_loss: true };
      const document = encodeSample(sample, tokenizer, settings, row);
      // Where a header and an answer share a token, training has two: the text is the same, the ids are not.
      if (merged) assert.equal(tokenizer.decode(document.tokens), tokenizer.decode(ids), row);
      else {
        assert.deepEqual([...document.tokens], ids, row);
        // TRL also trains the line break that a template puts behind the end marker of a completion, which no model writes;
        // here it is trained where the template's tags say so.
        const [first, end] = trained[trained.length - 1];
        const isBreak =
          !template.endsWith("-tagged") &&
          "prompt" in value &&
          tokenizer.decode(ids.slice(end - 1, end)) === "\n" &&
          end === ids.length;
        const expected = [...trained.slice(0, -1), [first, isBreak ? end - 1 : end]];
        assert.deepEqual(runsOf(document.trained), expected, row);
      }
    }
  });
}
