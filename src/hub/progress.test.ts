import assert from "node:assert/strict";
import { test } from "node:test";

import { fetchProgress } from "./progress.js";

const MIB = 2 ** 20;
const FILES = [
  { path: "a.safetensors", bytes: 30 * MIB, hash: "" },
  { path: "b.safetensors", bytes: 10 * MIB, hash: "" },
];

/** Fetches the first file from 20 MiB on, 1 MiB each 100 ms, and has the second one already. */
function follow(isTTY: boolean, columns = 200): string[] {
  const written: string[] = [];
  let ms = 0;
  const out = { write: (text: string) => written.push(text), isTTY, columns };
  const progress = fetchProgress({ out, files: FILES, now: () => ms, env: {} });
  progress.begin(FILES[0], 20 * MIB);
  for (let i = 0; i < 10; i++) {
    ms += 100;
    progress.arrived(MIB);
  }
  progress.end();
  progress.begin(FILES[1], FILES[1].bytes);
  progress.end();
  progress.close();
  return written;
}

test("elsewhere than on a terminal: a line per file, with what came over the network as the rate", () => {
  assert.deepEqual(follow(false), [
    "file 1/2  30.0 MiB of 40.0 MiB  10.0 MiB/s  left 1.0s  a.safetensors\n",
    "file 2/2  40.0 MiB of 40.0 MiB  10.0 MiB/s  left 0ms  b.safetensors\n",
  ]);
});

test("on a terminal: one line, rewritten once a second at most, no wider than the terminal", () => {
  const clear = "\r\x1b[2K";
  assert.deepEqual(follow(true), [
    `${clear}file 1/2  20.0 MiB of 40.0 MiB  0 B/s  left ?  a.safetensors`,
    `${clear}file 1/2  30.0 MiB of 40.0 MiB  10.0 MiB/s  left 1.0s  a.safetensors`,
    clear,
  ]);
  assert.ok(follow(true, 20).every((line) => line.replace(clear, "").length <= 19));
});
