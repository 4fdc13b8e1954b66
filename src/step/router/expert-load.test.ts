import assert from "node:assert/strict";
import { test } from "node:test";

import { CHOICE_CORRECTION } from "../../model/routing.js";
import { scope } from "../../torch/scope.js";
import { fromArray, toArray } from "../../torch/tensor.js";
import { correctingChoice, expertLoad } from "./expert-load.js";

const near = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) < 1e-12, `${actual} is not ${expected}`);

test("a layer each, in the order of the layers, whatever the order of the counts", () => {
  const load = expertLoad(
    new Map([
      [10, [1, 1]],
      [2, [1, 1]],
      [0, [1, 1]],
    ]),
  );
  assert.deepEqual(
    load.map(({ layer }) => layer),
    [0, 2, 10],
  );
  assert.deepEqual(expertLoad(new Map()), []);
});

test("even experts: the busiest is the mean, and the entropy is that of a fair draw", () => {
  const [{ maxOverMean, entropy, dead }] = expertLoad(new Map([[0, [7, 7, 7, 7, 7, 7]]]));
  assert.equal(maxOverMean, 1);
  near(entropy, Math.log(6));
  assert.equal(dead, 0);
});

test("uneven experts: shares of a half, two quarters and none", () => {
  const [{ maxOverMean, entropy, dead }] = expertLoad(new Map([[3, [4, 0, 2, 2]]]));
  assert.equal(maxOverMean, 2);
  near(entropy, 1.5 * Math.LN2);
  assert.equal(dead, 1);
});

test("one expert that takes everything: as many times the mean as there are experts, and no entropy", () => {
  const [{ maxOverMean, entropy, dead }] = expertLoad(new Map([[0, [0, 0, 9, 0]]]));
  assert.equal(maxOverMean, 4);
  near(entropy, 0);
  assert.equal(dead, 3);
});

test("a correction falls where an expert got more than the mean and rises where it got fewer; other layers stay", () => {
  scope(() => {
    for (const shape of [[4], [1, 4]]) {
      const correction = fromArray([0.5, -0.25, 0, 1], shape, "float32");
      const correct = correctingChoice(0.125, new Map([[2, [3, 1, 2, 2]]]));
      const parameters = { [CHOICE_CORRECTION]: correction };
      correct(1, parameters, (stored, change) => change(stored));
      assert.deepEqual(toArray(correction), [0.5, -0.25, 0, 1]);
      correct(2, {}, () => assert.fail("a layer without a correction is changed"));
      correctingChoice(0.125, new Map([[2, [3, 1, 2, 2]]]), (layer) => layer !== 2)(2, parameters, () =>
        assert.fail("a frozen layer is changed"),
      );
      correct(2, parameters, (stored, change) => change(stored));
      assert.deepEqual(toArray(correction), [0.375, -0.125, 0, 1]);
    }
  });
});
