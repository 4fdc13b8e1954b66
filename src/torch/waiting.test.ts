// What is settled of waiting threads, and that other programs' are seen.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { othersRunning, settleWaiting } from "./waiting.js";

test("threads spin for a moment where nothing else runs, sleep at once where something does, and do as they are told", () => {
  const settled = (environment: NodeJS.ProcessEnv, others: number | null): NodeJS.ProcessEnv => {
    settleWaiting(environment, () => others);
    return environment;
  };
  assert.deepEqual(settled({}, 0), { OMP_WAIT_POLICY: "passive", GOMP_SPINCOUNT: "5000" });
  assert.deepEqual(settled({}, 1), { OMP_WAIT_POLICY: "passive" });
  assert.deepEqual(settled({}, null), { OMP_WAIT_POLICY: "passive" });
  assert.deepEqual(settled({ OMP_WAIT_POLICY: "active" }, 0), { OMP_WAIT_POLICY: "active" });
  assert.deepEqual(settled({ GOMP_SPINCOUNT: "10" }, 0), { GOMP_SPINCOUNT: "10" });
  // What a parent settled stands for its children, however busy they find the machine.
  assert.deepEqual(settled(settled({}, 1), 0), { OMP_WAIT_POLICY: "passive" });
});

test("a program that runs is seen", { skip: process.platform !== "linux" && "/proc is Linux's" }, async (t) => {
  const other = spawn(process.execPath, ["-e", "console.log('begun'); for (;;);"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  t.after(() => other.kill("SIGKILL"));
  await once(other.stdout, "data");
  const others = othersRunning();
  assert.ok(others !== null && others >= 1, `${others} others run`);
});
