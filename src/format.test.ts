// Sizes as people write them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { formatBytes, parseBytes } from "./format.js";

test("sizes are read with binary and decimal units, and nothing else is", () => {
  assert.equal(parseBytes("8GiB"), 8 * 2 ** 30);
  assert.equal(parseBytes("1.5 GB"), 1.5e9);
  assert.equal(parseBytes("500mb"), 5e8);
  assert.equal(parseBytes("12B"), 12);
  for (const words of ["", "8", "8G", "GiB", "-1GiB", "8GiBs", "8 iB"]) assert.equal(parseBytes(words), undefined, words);
  assert.equal(parseBytes(formatBytes(3 * 2 ** 40)), 3 * 2 ** 40);
});
