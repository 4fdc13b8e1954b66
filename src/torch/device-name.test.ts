import assert from "node:assert/strict";
import { test } from "node:test";

import { deviceIndex, isCpu } from "./device-name.js";

test("devices are told apart by name", () => {
  assert.deepEqual(["cpu", "cpu:0", "cuda", "cuda:0", "cuda:12"].map(isCpu), [true, true, false, false, false]);
  assert.deepEqual(["cuda", "cuda:0", "cuda:12"].map(deviceIndex), [0, 0, 12]);
});
