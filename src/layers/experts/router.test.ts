// Choices and gates against plain loops: the correction moves the choice alone, groups bar experts, gates are shares of the scores.
import assert from "node:assert/strict";
import { test } from "node:test";

import { scope } from "../../torch/scope.js";
import { normal_, topk } from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { fromArray, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { type Groups, groupedChoice, type Router, sigmoidRouter } from "./router.js";

const [T, E, A] = [40, 12, 3];
const GROUPS: Groups[] = [
  { count: 1, kept: 1, rank: "best two" },
  { count: 4, kept: 2, rank: "best two" },
  { count: 3, kept: 1, rank: "best" },
  { count: 6, kept: 6, rank: "best" },
];

const largest = (values: number[], count: number): number[] =>
  [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, count);

function expectedChoice(scores: number[], correction: number[], { count, kept, rank }: Groups): number[] {
  const choice = scores.map((score, e) => score + correction[e]);
  const size = E / count;
  const worth = Array.from({ length: count }, (_, g) =>
    largest(choice.slice(g * size, (g + 1) * size), rank === "best" ? 1 : 2).reduce(
      (total, e) => total + choice[g * size + e],
      0,
    ),
  );
  const best = largest(worth, kept);
  return largest(
    choice.map((value, e) => (best.includes(Math.floor(e / size)) ? value : -Infinity)),
    A,
  );
}

const rowsOf = (t: Tensor, width: number): number[][] => {
  const values = toArray(t);
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
};

for (const groups of GROUPS) {
  test(`${groups.kept} of ${groups.count} groups, by their ${groups.rank}: choice and gates`, () => {
    scope(() => {
      setSeed(3);
      const logits_TE = normal_(zeros([T, E], "float64"), 0, 1);
      const correction = toArray(normal_(zeros([E], "float64"), 0, 0.3));
      const sigmoids = rowsOf(logits_TE, E).map((row) => row.map((z) => 1 / (1 + Math.exp(-z))));
      const correction_E = fromArray(correction, [E], "float64");
      for (const [normalize, factor] of [
        [true, 2.5],
        [false, 1],
      ] as const) {
        const router: Router = sigmoidRouter(groups, normalize, factor);
        const scores_TE = router.scores(logits_TE);
        const indices_TA = topk(router.choice!(scores_TE, correction_E), A, -1)[1];
        const gates = rowsOf(router.gates(scores_TE, indices_TA), A);
        for (const [t, chosen] of rowsOf(indices_TA, A).entries()) {
          assert.deepEqual(chosen, expectedChoice(sigmoids[t], correction, groups));
          const total = chosen.reduce((all, e) => all + sigmoids[t][e], 0);
          for (const [i, e] of chosen.entries())
            assert.ok(Math.abs(gates[t][i] - (factor * sigmoids[t][e]) / (normalize ? total : 1)) < 1e-12);
        }
      }
    });
  });
}

test("a score of zero in a group that is kept is chosen before any of a group that is not", () => {
  scope(() => {
    const scores_TE = fromArray([0.1, 0.1, 0.1, 0.5, 0, 0, 0.4, 0.3, 0.2, 0.2, 0.2, 0.2], [1, E], "float32");
    const choice_TE = groupedChoice({ count: 3, kept: 1, rank: "best two" })(scores_TE, null);
    const [first, second, ...rest] = toArray(topk(choice_TE, 4, -1)[1]);
    assert.deepEqual([first, second, ...rest.sort()], [6, 7, 4, 5]);
  });
});
