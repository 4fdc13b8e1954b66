// One process at a time: beside each other, after a kill, and with locks that no process of this machine left.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { thisProcess } from "./process-identity.js";
import { checkUnlocked, LOCK_FILE, takeLock } from "./lock.js";

const TAKER = fileURLToPath(new URL("testing-lock.js", import.meta.url));

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-lock-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

interface Taker {
  child: ChildProcess;
  /** The first line. */
  said: Promise<string>;
}

function taker(t: TestContext, dir: string, at = 0): Taker {
  const child = spawn(process.execPath, [TAKER, dir, String(at)], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const said = new Promise<string>((resolve) =>
    child.stdout?.setEncoding("utf8").once("data", (text: string) => resolve(text.trim())),
  );
  return { child, said };
}

const ended = ({ child }: Taker): Promise<unknown> => new Promise((resolve) => child.once("close", resolve));

async function kill(one: Taker): Promise<void> {
  const end = ended(one);
  one.child.kill("SIGKILL");
  await end;
}

const leaveLock = (dir: string, changes: object): void =>
  writeFileSync(
    join(dir, LOCK_FILE),
    JSON.stringify({
      ...thisProcess(),
      token: "00000000-0000-4000-8000-000000000000",
      since: "2026-01-02T03:04:05.000Z",
      ...changes,
    }),
  );

test("a second one is refused by name, in this process and in another, and the first is gone when it ends", async (t) => {
  const dir = makeFolder(t);
  const { note, release } = takeLock(dir);
  assert.equal(note, null);
  const inUse = new RegExp(
    `is in use by process ${process.pid} on \\S+ \\(since \\d{4}-\\d\\d-\\d\\d [\\d:]{8} UTC\\)\\. Wait for it, stop it`,
  );
  assert.throws(() => takeLock(dir), { name: "UserError", message: inUse });
  assert.throws(() => checkUnlocked(dir), { name: "UserError", message: inUse });
  assert.match(await taker(t, dir).said, inUse);
  release();
  assert.deepEqual(readdirSync(dir), []);
  const other = taker(t, dir);
  assert.equal(await other.said, "taken");
  assert.throws(() => takeLock(dir), { message: new RegExp(`process ${other.child.pid} on`) });
  const end = ended(other);
  other.child.stdin?.end();
  await end;
  assert.deepEqual(readdirSync(dir), []);
});

for (const killed of [false, true]) {
  test(`of six at one moment ${killed ? "over the lock of a killed one" : "in an empty folder"}, one has the lock`, async (t) => {
    for (let round = 0; round < 3; round++) {
      const dir = makeFolder(t);
      if (killed) {
        const first = taker(t, dir);
        assert.equal(await first.said, "taken");
        await kill(first);
      }
      const all = Array.from({ length: 6 }, () => taker(t, dir, Date.now() + 1500));
      const said = await Promise.all(all.map((each) => each.said));
      assert.equal(said.filter((line) => line.startsWith("taken")).length, 1, said.join("\n"));
      assert.equal(said.filter((line) => /is in use by process \d+ on/.test(line)).length, 5, said.join("\n"));
      const holder = all[said.findIndex((line) => line.startsWith("taken"))];
      if (killed)
        assert.match(
          said.join("\n"),
          /taken process \d+ on \S+ \(since .*\) was at work in .* and did not end by itself; its lock/,
        );
      assert.equal((JSON.parse(readFileSync(join(dir, LOCK_FILE), "utf8")) as { pid: number }).pid, holder.child.pid);
      assert.deepEqual(readdirSync(dir), [LOCK_FILE]);
      await kill(holder);
    }
  });
}

test("a takeover that was killed before its end is taken over", (t) => {
  const dir = makeFolder(t);
  leaveLock(dir, { started: "1", token: "a" });
  writeFileSync(
    join(dir, `${LOCK_FILE}.after-a`),
    JSON.stringify({ ...thisProcess(), started: "2", token: "b", since: "2026" }),
  );
  writeFileSync(
    join(dir, `${LOCK_FILE}.b`),
    JSON.stringify({ ...thisProcess(), started: "2", token: "b", since: "2026" }),
  );
  const { note, release } = takeLock(dir);
  assert.match(note ?? "", /did not end by itself/);
  assert.deepEqual(readdirSync(dir), [LOCK_FILE]);
  release();
  assert.deepEqual(readdirSync(dir), []);
});

const LEFT: [string, object, boolean][] = [
  ["a process number that another process has now", { started: "1" }, true],
  ["another start of this machine", { boot: "0", pid: 1 }, true],
  ["a process number that nobody has", { pid: 2 ** 22 + 1 }, true],
  ["another machine", { host: "elsewhere" }, false],
  ["another machine of the same name", { machine: "0" }, false],
  ["another container of the same name", { pidNamespace: "pid:[1]" }, false],
];
for (const [name, changes, stale] of LEFT) {
  test(`a lock of ${name} is ${stale ? "taken over" : "left alone, with what to do"}`, (t) => {
    const dir = makeFolder(t);
    leaveLock(dir, changes);
    if (stale) {
      const { note, release } = takeLock(dir);
      assert.match(note ?? "", /^process \d+ on \S+ \(since 2026-01-02 03:04:05 UTC\) was at work/);
      release();
    } else {
      const message = /It cannot be seen from here: if it has ended, remove \S+\/run\.lock and start again\.$/;
      assert.throws(() => takeLock(dir), { name: "UserError", message });
      assert.deepEqual(readdirSync(dir), [LOCK_FILE]);
    }
  });
}

test("a lock that nobody can read is a sentence", (t) => {
  for (const text of ["", "{", "[]", '{"pid": "1"}']) {
    const dir = makeFolder(t);
    writeFileSync(join(dir, LOCK_FILE), text);
    assert.throws(() => takeLock(dir), {
      name: "UserError",
      message: /run\.lock: cannot be read .*If none does, remove the file\.$/,
    });
  }
  for (const make of [
    mkdirSync,
    (path: string) => symlinkSync(LOCK_FILE, path),
    (path: string) => mkdirSync(join(path, "a"), { recursive: true }),
  ]) {
    const dir = makeFolder(t);
    make(join(dir, LOCK_FILE));
    assert.throws(() => checkUnlocked(dir), {
      name: "UserError",
      message: /run\.lock: is a (folder|link, which is not followed) .* remove it\.$/,
    });
  }
});
