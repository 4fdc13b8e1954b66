import assert from "node:assert/strict";
import { test } from "node:test";

import { expertLoad } from "./expert-load.js";

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
