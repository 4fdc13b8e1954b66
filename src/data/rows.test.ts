import assert from "node:assert/strict";
import { test } from "node:test";
import { describe } from "./rows.js";

test("values in few words", () => {
  assert.deepEqual([undefined, null, [], [1], {}, "x".repeat(50), 5, true].map(describe), [
    "missing",
    "null",
    "an empty array",
    "an array of 1",
    "an object with the keys (none)",
    `the text "${"x".repeat(40)}..."`,
    "the number 5",
    "the boolean true",
  ]);
});
