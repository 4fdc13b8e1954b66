// Every end of a worker is a status: the system's, its own, and that of the language's own memory.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import type { Job } from "./work.js";
import { RowFailure, WorkerProcess } from "./worker-process.js";

/** A worker that does `body` when it is given its job. */
async function statusOf(t: TestContext, body: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-worker-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = join(folder, "worker.mjs");
  writeFileSync(script, `process.once("message", () => { ${body} });`);
  const worker = new WorkerProcess({ script });
  try {
    await worker.start({} as Job);
    return "ok";
  } catch (failure) {
    assert.ok(failure instanceof RowFailure, String(failure));
    return failure.message;
  } finally {
    await worker.end();
  }
}

test("a process that the system ends for its memory has run out of memory", async (t) => {
  assert.equal(await statusOf(t, 'process.kill(process.pid, "SIGKILL")'), "out of memory");
  assert.equal(
    await statusOf(t, 'console.error("FATAL ERROR: JavaScript heap out of memory"); process.exit(134)'),
    "out of memory",
  );
  assert.equal(
    await statusOf(t, 'process.send({ kind: "failure", outOfMemory: true, message: "mm: ..." })'),
    "out of memory",
  );
});

test("any other end is a failure with its reason", async (t) => {
  assert.equal(
    await statusOf(t, 'console.error("a\\nlast words"); process.exit(3)'),
    "failed: its process ended with code 3: last words",
  );
  assert.equal(await statusOf(t, 'process.kill(process.pid, "SIGTERM")'), "failed: its process ended with SIGTERM");
  assert.equal(
    await statusOf(t, 'process.send({ kind: "failure", outOfMemory: false, message: "no." })'),
    "failed: no.",
  );
  assert.equal(await statusOf(t, 'process.send({ kind: "start", start: {} }); process.disconnect()'), "ok");
});

test("an abort ends the process, however busy it is", async (t) => {
  const controller = new AbortController();
  const folder = mkdtempSync(join(tmpdir(), "revmoe-worker-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = join(folder, "worker.mjs");
  writeFileSync(script, `process.once("message", () => { for (;;); });`);
  const worker = new WorkerProcess({ script, signal: controller.signal });
  const started = worker.start({} as Job);
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(started, RowFailure);
  await worker.end();
});
