// Tokens go once to each rank that they need, and get the sums of their choices' rows back; rows of several ranks are sorted again.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../../torch/scope.js";
import { fromArray, toArray } from "../../torch/tensor.js";
import { reachedShare } from "./reached-share.js";
import { arrived, byChoice, byRow, outgoing, placesOfArrived, setsByRank, sumsOfRows } from "./token-rows.js";

const never = (): number[] => assert.fail("an engine with elements knows");

test("a token goes to a rank once, whatever it needs there, and comes back as the sum of what ranks send", () =>
  scope(() => {
    // Three tokens of two choices: experts 1 0, 0 2, 2 1. The first rank holds the experts 0 and 1, the second 2, the third none.
    const places_TA = fromArray([2, 0, 1, 4, 5, 3], [3, 2], "int64");
    const { tokens, token_S, number_R } = outgoing(places_TA, [4, 2, 0], never, "float32");
    assert.deepEqual(tokens, [3, 2, 0]);
    assert.deepEqual(toArray(token_S), [0, 1, 2, 1, 2]);
    // Rows of expert 0: tokens 0 1; of 1: tokens 0 2; of 2: tokens 1 2.
    assert.deepEqual(toArray(number_R), [0, 1, 0, 2, 0, 1]);
    const back_SD = fromArray([1, 10, 2, 20, 4, 40, 8, 80, 16, 160], [5, 2], "float32");
    const sets = setsByRank(token_S, tokens);
    assert.deepEqual(toArray(sumsOfRows(back_SD, 3, sets)), [1, 10, 10, 100, 20, 200]);
    const gates_TA = fromArray([1, 2, 3, 4, 5, 6], [3, 2], "float32");
    const gates_R = byRow(places_TA, gates_TA);
    assert.deepEqual(toArray(gates_R), [2, 3, 1, 6, 4, 5]);
    assert.deepEqual(toArray(byChoice(places_TA, gates_R)), [1, 2, 3, 4, 5, 6]);
  }));

test("choices that came find their token's row, and their rows are added up by token", () =>
  scope(() => {
    // Three tokens of the first rank with four choices, one of the third with two.
    const number_R = fromArray([0, 1, 0, 2, 0, 0], [6], "float32");
    const { token_R, sets } = arrived(number_R, [4, 0, 2], [3, 0, 1]);
    assert.deepEqual(toArray(token_R), [0, 1, 0, 2, 3, 3]);
    assert.deepEqual(
      sets.map(({ token_N, row_N }) => [toArray(token_N), toArray(row_N)]),
      [
        [
          [0, 1, 2, 3],
          [0, 1, 3, 4],
        ],
        [
          [0, 3],
          [2, 5],
        ],
      ],
    );
    const of_RD = fromArray([1, 2, 4, 8, 16, 32], [6, 1], "bfloat16");
    assert.deepEqual(toArray(sumsOfRows(of_RD, 4, sets)), [5, 2, 8, 48]);
  }));

test("sums are rounded once", () =>
  scope(() => {
    const sets = setsByRank(fromArray([0, 0, 0], [3], "int64"), [1, 1, 1]);
    // 1 + 2^-8 is 1 in bfloat16, 1 + 2^-7 is not.
    const of_RD = fromArray([1, 2 ** -8, 2 ** -8], [3, 1], "bfloat16");
    assert.deepEqual(toArray(sumsOfRows(of_RD, 1, sets)), [1 + 2 ** -7]);
  }));

for (const [perToken, all, held, share] of [
  [1, 4, 1, 1 / 4],
  [2, 4, 2, 1 - 1 / 6],
  [3, 4, 2, 1],
  [8, 8, 1, 1],
  [2, 3, 1.5, 1 - (1.5 / 3) * (0.5 / 2)],
] as const)
  test(`of ${held} of ${all} experts ${perToken} choices reach some with the share ${share}`, () =>
    assert.ok(Math.abs(reachedShare(perToken, all, held) - share) < 1e-12));

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
