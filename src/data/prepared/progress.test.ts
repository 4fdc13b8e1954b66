// The line that tells how far rows are.
import assert from "node:assert/strict";
import { test } from "node:test";

import { rowProgress } from "./progress.js";

function watched(isTTY: boolean) {
  const said: string[] = [];
  let nowMs = 0;
  const out = { isTTY, columns: 80, write: (text: string) => said.push(text), raw: (text: string) => said.push(text) };
  const progress = rowProgress(out, () => nowMs, {});
  return { said, progress, wait: (ms: number) => (nowMs += ms) };
}

test("a terminal has one line with a bar, rewritten once a second at most, and cleared", () => {
  const { said, progress, wait } = watched(true);
  progress.at(10, 0.01);
  wait(2000);
  progress.at(1000, 0.25);
  wait(500);
  progress.at(1500, 0.4);
  wait(500);
  progress.at(2000, undefined);
  progress.close();
  assert.deepEqual(said, [
    "\r\x1b[2Kpreparing rows: [######..................] 25 %  1.0 k  500 rows/s  left 6.0s",
    "\r\x1b[2Kpreparing rows: 2.0 k  667 rows/s",
    "\r\x1b[2K",
  ]);
});

test("elsewhere there is a line every half minute, and none for what takes less", () => {
  const { said, progress, wait } = watched(false);
  for (let i = 1; i <= 7; i++) {
    wait(10_000);
    progress.at(100 * i, i / 10);
  }
  progress.close();
  assert.deepEqual(said, [
    "preparing rows: 30 %  300  10 rows/s  left 1m10s\n",
    "preparing rows: 60 %  600  10 rows/s  left 40s\n",
  ]);
});
