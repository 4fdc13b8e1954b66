// The command as a person starts it: an address that answers, runs and notes, an end by a signal, and folders that are refused.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { writeMarker } from "../../checkpoint/run/marker.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));

function makeRuns(t: TestContext, ...names: string[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-dashboard-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return names.map((name) => {
    const dir = join(folder, name);
    mkdirSync(dir);
    if (!name.startsWith("empty")) writeMarker(dir, { replacing: false });
    return dir;
  });
}

/** Its standard output, as soon as `isWhole` says that it is. */
async function said(started: ChildProcess, isWhole: (text: string) => boolean): Promise<string> {
  let text = "";
  for await (const piece of started.stdout ?? []) if (isWhole((text += String(piece)))) break;
  return text;
}

test("it serves until it is told to end", async (t) => {
  const dirs = makeRuns(t, "a", "b", "empty");
  const started = spawn(process.execPath, [CLI, "dashboard", ...dirs, "--port", "0", "--json"]);
  t.after(() => started.kill("SIGKILL"));
  const ended = once(started, "exit");
  const text = await said(started, (all) => all.endsWith("}\n"));
  const { url, runs, notes } = JSON.parse(text) as { url: string; runs: { name: string }[]; notes: string[] };
  assert.deepEqual([runs.map(({ name }) => name), notes.length], [["a", "b"], 1]);
  const page = await fetch(url);
  assert.deepEqual([page.status, (await page.text()).includes("<title>RevMoE runs</title>")], [200, true]);
  started.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
});

test("folders that are not there, and a port that cannot be, are refused in a sentence", (t) => {
  const [dir] = makeRuns(t, "a");
  for (const [words, message] of [
    [
      [join(dir, "none")],
      /^revmoe: .*none: does not exist \(expected the folder of a run, or one that holds runs\)\.\n$/,
    ],
    [[join(dir, "run.json")], /^revmoe: .*run\.json: is a file/],
    [[dir, "--port", "70000"], /^revmoe: --port 70000 is not possible/],
  ] as const) {
    const { status, stderr } = spawnSync(process.execPath, [CLI, "dashboard", ...words], { encoding: "utf8" });
    assert.match(stderr, message);
    assert.equal(status, 2);
  }
});
