// The server as a browser, and as another site's page would, sees it.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { takeLock } from "../checkpoint/run/lock.js";
import { describeRun, type RunDescription } from "./describe-run.js";
import { checkFolders, findRuns } from "./find-runs.js";
import { startDashboard } from "./server.js";
import type { Piece } from "./tail.js";
import { addText, makeFolder, makeRun } from "./testing-runs.js";

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

/** As it stands on the wire: fetch would mend paths and set Host itself. */
function ask(url: string, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const asked = request(
      { hostname, port, path, method, headers: { host: `127.0.0.1:${port}`, ...headers } },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("end", () => {
          const text = Buffer.concat(parts).toString();
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text });
        });
      },
    );
    asked.on("error", reject);
    asked.end();
  });
}

async function served(t: TestContext, folders: string[]): Promise<string> {
  const dashboard = await startDashboard(folders, 0);
  t.after(() => dashboard.close());
  return dashboard.url;
}

const json = async <T>(url: string, path: string): Promise<T> => JSON.parse((await ask(url, path)).text) as T;
const runsAt = async (url: string): Promise<RunDescription[]> =>
  (await json<{ runs: RunDescription[] }>(url, "/api/runs")).runs;

test("hosts and origins other than this machine's are refused, and all methods but GET", async (t) => {
  const folder = makeFolder(t);
  makeRun(folder, "first", 3);
  const url = await served(t, [folder]);
  const port = new URL(url).port;
  for (const path of ["/", "/api/runs", "/page/main.js"]) {
    for (const host of [
      "evil.example",
      `evil.example:${port}`,
      "127.0.0.1.evil.example",
      "localhost.evil.example",
      "0.0.0.0",
    ])
      assert.equal((await ask(url, path, { host })).status, 403, `${path} ${host}`);
    for (const origin of [
      "http://evil.example",
      "null",
      "https://127.0.0.1",
      "http://127.0.0.1.evil.example",
      "http://127.0.0.1:1",
    ])
      assert.equal((await ask(url, path, { origin })).status, 403, `${path} ${origin}`);
    assert.equal(
      (await ask(url, path, { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" })).status,
      403,
      path,
    );
    for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
      assert.equal((await ask(url, path, {}, method)).status, 405, `${path} ${method}`);
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`])
      assert.equal((await ask(url, path, { host, origin: `http://${host}` })).status, 200, `${path} ${host}`);
  }
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  assert.equal((await ask(url, "/", link)).status, 200, "a link from elsewhere opens the page");
  assert.equal((await ask(url, "/api/runs", link)).status, 403, "and nothing else");
});

test("every answer forbids requests to elsewhere, frames and guesses of its type", async (t) => {
  const url = await served(t, [makeFolder(t)]);
  for (const path of ["/", "/api/runs", "/page/main.js", "/none"]) {
    const { headers } = await ask(url, path);
    const policy = String(headers["content-security-policy"]);
    for (const part of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"])
      assert.ok(policy.includes(part), `${path}: ${policy}`);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["access-control-allow-origin"], undefined, path);
  }
  assert.match((await ask(url, "/page/uplot.js")).text, /uPlot/);
});

test("nothing outside the page and the runs is served, however it is asked for", async (t) => {
  const folder = makeFolder(t);
  const dir = makeRun(folder, "first", 2);
  writeFileSync(join(folder, "secret.json"), '{"secret":"hidden"}');
  // In the place of a run's own files.
  const linked = makeRun(folder, "linked", 0);
  for (const name of ["config.json", "plan.json", "metrics.jsonl"]) {
    rmSync(join(linked, name), { force: true });
    symlinkSync(join(folder, "secret.json"), join(linked, name));
  }
  const url = await served(t, [folder]);
  const ids = (await runsAt(url)).map(({ id }) => id);
  assert.equal(ids.length, 2);
  const paths = [
    "/page/../package.json",
    "/page/..%2fpackage.json",
    "/page/%2e%2e/package.json",
    "/page/uplot.d.ts",
    "/../secret.json",
  ];
  const ofRuns = ["..", "%2e%2e", "first", `${ids[0]}/..`, encodeURIComponent(dir), encodeURIComponent("../first")];
  for (const path of [...paths, ...ofRuns.map((id) => `/api/runs/${id}/metrics`), `/api/runs/${ids[0]}/config.json`]) {
    const { status, text } = await ask(url, path);
    assert.equal(status, 404, path);
    assert.doesNotMatch(text, /hidden|"name": "revmoe"/, path);
  }
  for (const id of ids) assert.doesNotMatch((await ask(url, `/api/runs/${id}/metrics`)).text, /hidden/);
  assert.doesNotMatch((await ask(url, "/api/runs")).text, /hidden/);
  for (const query of ["file=x", "offset=-1", "offset=1e9", "offset=", "file=1&offset=99999999999999999"])
    assert.equal((await ask(url, `/api/runs/${ids[0]}/metrics?${query}`)).status, 400, query);
});

test("a run is described, followed, and seen to be at work", async (t) => {
  const folder = makeFolder(t);
  const dir = makeRun(folder, "first", 3);
  const url = await served(t, [folder]);
  const described = async (): Promise<RunDescription> => (await runsAt(url))[0];
  const { id, name, active, finished, totalSteps, planned, settings, notes } = await described();
  assert.deepEqual([name, active, finished, totalSteps, notes], ["first", false, false, 6, []]);
  assert.deepEqual([planned?.peakBytes, settings?.optimizer], [1000, "adamw"]);
  const first = await json<Piece>(url, `/api/runs/${id}/metrics`);
  assert.deepEqual([first.events.length, first.broken, first.more], [6, [], false]);
  addText(dir, 'no event\n{"kind":"message","step":4,"message":"on"}\n{"kind":');
  const next = await json<Piece>(url, `/api/runs/${id}/metrics?file=${first.file}&offset=${first.offset}`);
  assert.deepEqual([next.events, next.broken, next.lines], [[{ kind: "message", step: 4, message: "on" }], [1], 2]);
  const lock = takeLock(dir);
  mkdirSync(join(dir, "final"));
  const atWork = await described();
  assert.deepEqual([atWork.active, atWork.finished], [true, true]);
  lock.release();
  assert.equal((await described()).active, false);
  writeFileSync(join(dir, "config.json"), "{");
  assert.deepEqual((await described()).notes, ["config.json: cannot be understood (expected a JSON object)."]);
});

test("a pipe in the place of any file of a run keeps nobody waiting", (t) => {
  const folder = makeFolder(t);
  const names = ["run.json", "config.json", "plan.json", "run.lock", "metrics.jsonl"];
  for (const name of names) {
    const dir = makeRun(folder, name, 1);
    rmSync(join(dir, name), { force: true });
    execFileSync("mkfifo", [join(dir, name)]);
  }
  // In a process of its own, which can be ended: a pipe would hold it for ever.
  const look = `const { startDashboard } = await import(${JSON.stringify(new URL("server.js", import.meta.url))});
    const { url, close } = await startDashboard([${JSON.stringify(folder)}], 0);
    const { runs } = await (await fetch(url + "api/runs")).json();
    for (const { id } of runs) await (await fetch(url + "api/runs/" + id + "/metrics")).json();
    console.log(JSON.stringify(runs));
    await close();`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", look], { timeout: 30_000 });
  assert.ok(stdout.length > 0, `no answer: ${stderr}`);
  const runs = JSON.parse(String(stdout)) as RunDescription[];
  assert.deepEqual(
    runs.map(({ name }) => name),
    names.filter((name) => name !== "run.json").sort(),
  );
  for (const { name, notes } of runs.filter(({ name }) => name !== "metrics.jsonl"))
    assert.match(notes.join(), new RegExp(`/${name}: is a pipe \\(expected an ordinary file\\)\\.`), name);
});

test("no file of a run is read through a link, nor one named by its lock, which is said", async (t) => {
  const folder = makeFolder(t);
  const names = ["run.json", "config.json", "plan.json", "run.lock", "metrics.jsonl"];
  for (const name of names) {
    const dir = makeRun(folder, name, 1);
    const elsewhere = join(folder, `${name}.elsewhere`);
    if (name === "run.lock") writeFileSync(elsewhere, "{}");
    else renameSync(join(dir, name), elsewhere);
    symlinkSync(elsewhere, join(dir, name));
  }
  // Of an earlier version, by its settings alone: those of another program must not make it a run.
  const older = makeRun(folder, "older", 1);
  rmSync(join(older, "run.json"));
  rmSync(join(older, "config.json"));
  writeFileSync(join(folder, "config.elsewhere"), '{"train_file":"a","output_dir":"b"}');
  symlinkSync(join(folder, "config.elsewhere"), join(older, "config.json"));
  const url = await served(t, [folder]);
  const runs = await runsAt(url);
  assert.deepEqual(
    runs.map(({ name }) => name),
    names.filter((name) => name !== "run.json").sort(),
  );
  for (const { id, name, notes } of runs) {
    const { text } = await ask(url, `/api/runs/${id}/metrics`);
    const said = name === "metrics.jsonl" ? text : notes.join();
    assert.match(said, new RegExp(`/${name}: is a link, which is not followed`), name);
  }
});

test("a lock that is half written is not waited for, and leads to no other file", (t) => {
  const dir = makeRun(makeFolder(t), "first", 1);
  t.mock.method(Atomics, "wait", () => assert.fail("the server stands still"));
  for (const text of ["", '{"pid":1,"tok', '{"pid":1,"token":"/../config.json"}']) {
    writeFileSync(join(dir, "run.lock"), text);
    const { active, notes } = describeRun({ id: "", name: "first", dir });
    assert.equal(active, false);
    assert.match(notes.join(), /run\.lock: cannot be read \(expected the process that trains/, text);
  }
});

test("runs are found in folders of runs, each once; what is not shown is said", (t) => {
  const folder = makeFolder(t);
  const dir = makeRun(folder, "a", 1);
  makeRun(folder, "group/b", 1);
  makeRun(folder, "group/deeper/c", 1);
  mkdirSync(join(folder, "group/deeper/still/d"), { recursive: true });
  symlinkSync(dir, join(folder, "link"));
  mkdirSync(join(folder, "empty"));
  const names = (folders: string[]): string[] => findRuns(folders).runs.map(({ name }) => name);
  assert.deepEqual(names([folder]), ["a", "group/b"]);
  assert.deepEqual(names([folder, dir, join(folder, "link")]), ["a", "group/b"]);
  assert.deepEqual(names([join(folder, "group")]), ["b", "deeper/c"]);
  assert.match(findRuns([folder]).notes.join(), /1 link in it not followed/);
  assert.match(
    findRuns([join(folder, "empty")]).notes.join(),
    /no run is in this folder yet\. revmoe train --output-dir/,
  );
  assert.match(findRuns([join(folder, "none")]).notes.join(), /there is no such folder yet/);
  assert.throws(() => checkFolders([join(folder, "none")]), {
    name: "UserError",
    message: /does not exist \(expected the folder of a run/,
  });
  assert.throws(() => checkFolders([join(dir, "run.json")]), { message: /is a file/ });
});

test("a port that is in use is said", async (t) => {
  const url = await served(t, [makeFolder(t)]);
  const port = Number(new URL(url).port);
  await assert.rejects(startDashboard([], port), {
    name: "UserError",
    message: `port: ${port} is in use. Choose another port, or 0 for any that is free.`,
  });
});
