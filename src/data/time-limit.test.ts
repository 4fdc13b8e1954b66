import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import { eachInTime, inTime } from "./time-limit.js";

const activity = { what: "counting", remedy: "Stop it." };
const stuck: Record<string, () => unknown> = {
  "a loop": () => {
    for (;;);
  },
  "a pattern": () => /^(a+)+$/.test(`${"a".repeat(60)}b`),
  "a loop that catches": () => {
    for (;;) {
      try {
        throw new Error("x");
      } catch {}
    }
  },
};

for (const [name, work] of Object.entries(stuck)) {
  test(`${name} without end is stopped, by the name of what goes on, and the next work is done`, () => {
    const message = /^d\.jsonl:1: counting takes more than 1 s \(expected less than one\)\. Stop it\.$/;
    const place = (): string => "d.jsonl:1: ";
    assert.throws(() => inTime(() => 0.05, activity, work, place), { name: "UserError", message });
    assert.equal(
      inTime(
        () => 1,
        activity,
        () => 5,
      ),
      5,
    );
  });
}

test("in a thread beside the first one, too", async () => {
  const here = new URL("./time-limit.js", import.meta.url).href;
  const thread = new Worker(
    `import("${here}").then(({ inTime }) => {
      try { inTime(() => 0.05, { what: "counting", remedy: "Stop it." }, () => { for (;;); }); }
      catch ({ name, message }) { require("node:worker_threads").parentPort.postMessage({ name, message }); }
    });`,
    { eval: true },
  );
  const [said] = await once(thread, "message");
  await thread.terminate();
  assert.deepEqual(said, {
    name: "UserError",
    message: "counting takes more than 1 s (expected less than one). Stop it.",
  });
});

test("inside other work the outer limit holds, and the inner activity is the one named", () => {
  const inner = { what: "the inner", remedy: "" };
  assert.throws(
    () =>
      inTime(
        () => 0.05,
        activity,
        () => inTime(() => 1e6, inner, stuck["a loop"]),
      ),
    { message: /^the inner takes more than/ },
  );
});

test("errors of the work come out as they are", () => {
  const error = new TypeError("mine");
  const fails = (): never => {
    throw error;
  };
  assert.throws(
    () => inTime(() => 1, activity, fails),
    (thrown) => thrown === error,
  );
});

test("of many items all results are there in order, and the one that is stuck is named", () => {
  const limits = { secondsFor: () => 0.05, place: (item: number) => `item ${item}: ` };
  const items = Array.from({ length: 1000 }, (_, i) => i);
  assert.deepEqual(
    eachInTime(items, activity, limits, (item) => item * 2),
    items.map((item) => item * 2),
  );
  const work = (item: number): unknown => (item === 700 ? stuck["a pattern"]() : item);
  assert.throws(() => eachInTime(items, activity, limits, work), {
    name: "UserError",
    message: /^item 700: counting takes/,
  });
});
