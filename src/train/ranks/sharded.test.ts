// Runs of ranks that share weights and state: the bits of one process with the same micro-batches.
import { test } from "node:test";

import { checkPairs, pairFor } from "./testing-pairs.js";
import { makeWorkplace } from "../testing-run.js";

test("two ranks", async (t) => {
  const place = makeWorkplace(t);
  await checkPairs(place, [pairFor(place, "plain", { parameters: "sharded" })]);
});
