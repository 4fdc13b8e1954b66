import assert from "node:assert/strict";
import { test } from "node:test";

import { extractAnswer, sameAnswer } from "./answers.js";

test("the number behind ####, or else the last one, without commas, dollar sign and full stop", () => {
  for (const [text, expected] of [
    ["He has 3+4=<<3+4=7>>7 apples.\n#### 7", "7"],
    ["#### 18 and then 19", "18"],
    ["####-1,000", "-1000"],
    ["#### $70,000.", "70000"],
    ["#### ten, or 4", "4"],
    ["so it is 1,234.50.", "1234.50"],
    ["It costs $5", "5"],
    ["x = -$2", "-2"],
    ["10-5", "5"],
    ["1, 2, 3", "3"],
    ["1,2,3", "3"],
    ["12345,678", "678"],
    ["It is .5", ".5"],
    ["####", undefined],
    ["none at all", undefined],
    ["", undefined],
  ] as const) {
    assert.equal(extractAnswer(text), expected, text);
  }
});

test("answers are compared as numbers, and none equals none", () => {
  assert.ok(sameAnswer("18", "18.0"));
  assert.ok(sameAnswer(".5", "0.50"));
  assert.ok(!sameAnswer("18", "19"));
  assert.ok(!sameAnswer(undefined, undefined));
  assert.ok(!sameAnswer(undefined, "0"));
});
