// Rows of tokens, sorted by expert, and what comes back to tokens; rows of several ranks, sorted again.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../../torch/scope.js";
import { fromArray, toArray } from "../../torch/tensor.js";
import { byChoice, byRow, placesOfArrived, sumsOfRows, tokensOfRows } from "./token-rows.js";

test("each choice has its row, and each token the sum of its rows", () =>
  scope(() => {
    // Three tokens of two choices: experts 1 0, 0 2, 2 1.
    const places_TA = fromArray([2, 0, 1, 4, 5, 3], [3, 2], "int64");
    assert.deepEqual(toArray(tokensOfRows(places_TA)), [0, 1, 0, 2, 1, 2]);
    const gates_TA = fromArray([1, 2, 3, 4, 5, 6], [3, 2], "float32");
    const gates_R = byRow(places_TA, gates_TA);
    assert.deepEqual(toArray(gates_R), [2, 3, 1, 6, 4, 5]);
    assert.deepEqual(toArray(byChoice(places_TA, gates_R)), [1, 2, 3, 4, 5, 6]);
    const rows_RD = fromArray([1, 10, 2, 20, 4, 40, 8, 80, 16, 160, 32, 320], [6, 2], "float32");
    assert.deepEqual(toArray(sumsOfRows(places_TA, rows_RD)), [5, 50, 18, 180, 40, 400]);
  }));

for (const [counts, places] of [
  // Of two ranks, three experts: a a b c from the first, a b b c from the second.
  [
    [
      [2, 1, 1],
      [1, 2, 1],
    ],
    [0, 1, 3, 6, 2, 4, 5, 7],
  ],
  [
    [
      [0, 0],
      [3, 0],
      [0, 1],
    ],
    [0, 1, 2, 3],
  ],
  [
    [
      [0, 2],
      [1, 0],
    ],
    [1, 2, 0],
  ],
] as const)
  test(`rows of ${JSON.stringify(counts)} are sorted by expert and then by rank`, () =>
    scope(() => assert.deepEqual(toArray(placesOfArrived(counts, "cpu")), places)));
