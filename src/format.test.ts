// Sizes as people write them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { cutText, formatBytes, parseBytes, visibleText } from "./format.js";

test("sizes are read with binary and decimal units, and nothing else is", () => {
  assert.equal(parseBytes("8GiB"), 8 * 2 ** 30);
  assert.equal(parseBytes("1.5 GB"), 1.5e9);
  assert.equal(parseBytes("500mb"), 5e8);
  assert.equal(parseBytes("12B"), 12);
  for (const words of ["", "8", "8G", "GiB", "-1GiB", "8GiBs", "8 iB"])
    assert.equal(parseBytes(words), undefined, words);
  assert.equal(parseBytes(formatBytes(3 * 2 ** 40)), 3 * 2 ** 40);
});

test("text from outside shows its control characters; JSON stays what it says", () => {
  assert.equal(visibleText("a\x1b[2J\r\n\tb\x00"), "a\\x1b[2J\\x0d\n\tb\\x00");
  assert.equal(visibleText("\x7f\u009b31m \u202Eabc\u2069\u200f"), "\\u007f\\u009b31m \\u202eabc\\u2069\\u200f");
  assert.equal(visibleText("plain: \u00e4\u6f22\u{1f600}"), "plain: \u00e4\u6f22\u{1f600}");
  const value = { name: "\x1b]0;title\x07\u009d\u2028\u202e", text: "line\n" };
  assert.deepEqual(JSON.parse(visibleText(JSON.stringify(value))), value);
});

test("a long message keeps its beginning and what to do at its end", () => {
  assert.equal(cutText("short. Do this."), "short. Do this.");
  const cut = cutText(`file.gguf: ${"x".repeat(57_000)} Download it again.`);
  assert.ok(
    cut.length < 2100 && cut.startsWith("file.gguf: xxx") && cut.endsWith("xx Download it again."),
    cut.slice(1300, 1500),
  );
  assert.match(cut, / \[\.\.\. 55\d{3} characters \.\.\.\] /);
});
