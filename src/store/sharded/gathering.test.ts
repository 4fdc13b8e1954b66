// A pass over shares that is given up: what this rank has not read yet arrives before anything is dropped.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { RemoteReads } from "../../parallel/collectives.js";
import { free } from "../../torch/scope.js";
import { zeros } from "../../torch/tensor.js";
import { Gathering } from "./gathering.js";

test("a pass that is given up reads on to its end, for others wait for it", () => {
  const stored = [0, 1, 2].map(() => zeros([1, 4], "float32"));
  const log: string[] = [];
  const reads: RemoteReads = {
    inRounds: false,
    go: () => {},
    offer: () => {},
    read: (number, from) => {
      log.push(`read ${number} of ${from}`);
      return () => void log.push(`${number} is there`);
    },
    settled: () => {},
    finish: () => {},
    close: () => void log.push("dropped"),
  };
  const rows = [
    { first: 0, count: 1 },
    { first: 1, count: 1 },
  ];
  const weightsOf = (part: number) => [{ name: "w", stored: stored[part], shape: [2, 4], rows }];
  const gathering = new Gathering([0, 1, 2], { weightsOf, bring: () => {} }, reads, { rank: 0, world: 2 });
  gathering.load(0);
  assert.deepEqual(log, ["read 0 of 1", "0 is there", "read 1 of 1"]);
  gathering.finish();
  gathering.close();
  assert.deepEqual(log.slice(3), ["1 is there", "read 2 of 1", "2 is there", "dropped"]);
  free(...stored);
});
