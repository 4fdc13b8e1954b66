// What the page keeps of runs, without a browser: the store asks a real server, and goes on whatever it finds.
import assert from "node:assert/strict";
import { renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { startDashboard } from "./server.js";
import { addLine, addText, makeFolder, makeRun, stepLine } from "./testing-runs.js";

interface Columns {
  step: number[];
}
interface RunRecord {
  steps: Columns;
  evals: Record<string, Columns>;
  highest: { step: number } | null;
  broken: number[];
  add(piece: object): void;
}
interface Store {
  runs: { name: string; about: { notes: string[] }; record: RunRecord }[];
  trouble: string;
  changed(): void;
  refresh(): Promise<void>;
}

/** A store of the runs in `folder`, and how often it has set its timer; `stop` ends the server. */
async function followed(
  t: TestContext,
  folder: string,
): Promise<{ store: Store; timers(): number; stop(): Promise<void> }> {
  const { url, close } = await startDashboard([folder], 0);
  t.after(close);
  const request = globalThis.fetch;
  t.mock.method(globalThis, "fetch", (path: string) => request(new URL(path, url)));
  let timers = 0;
  const wait = globalThis.setTimeout;
  // The store's own is counted and not set: a test asks when it wants to.
  t.mock.method(globalThis, "setTimeout", (work: () => void, ms: number) =>
    String(work).includes("this.refresh()") ? void timers++ : wait(work, ms),
  );
  Object.assign(globalThis, { document: { hidden: false, addEventListener: () => {} } });
  t.after(() => Reflect.deleteProperty(globalThis, "document"));
  const page = (await import(new URL("../../page/store.js", import.meta.url).href)) as {
    Store: new (changed: () => void) => Store;
  };
  return { store: new page.Store(() => {}), timers: () => timers, stop: close };
}

const stepsOf = (store: Store): Record<string, number> =>
  Object.fromEntries(store.runs.map(({ name, record }) => [name, record.steps.step.length]));

test("a run whose metrics cannot be read is said in its log, and those behind it are shown", async (t) => {
  const folder = makeFolder(t);
  for (const name of ["a", "b", "c"]) makeRun(folder, name, 3);
  const path = join(folder, "a", "metrics.jsonl");
  renameSync(path, join(folder, "elsewhere"));
  symlinkSync(join(folder, "elsewhere"), path);
  const { store, stop } = await followed(t, folder);
  await store.refresh();
  assert.deepEqual([stepsOf(store), store.trouble], [{ a: 0, b: 3, c: 3 }, ""]);
  assert.deepEqual(
    store.runs.map(({ about }) => about.notes),
    [[`${path}: is a link, which is not followed (expected an ordinary file).`], [], []],
  );
  rmSync(path);
  renameSync(join(folder, "elsewhere"), path);
  await store.refresh();
  assert.deepEqual([stepsOf(store), store.runs[0].about.notes], [{ a: 3, b: 3, c: 3 }, []]);
  await stop();
  await store.refresh();
  assert.match(store.trouble, /^The server does not answer/);
});

test("odd lines are left out by number, and nothing ends the asking", async (t) => {
  const folder = makeFolder(t);
  const dir = makeRun(folder, "a", 0);
  const odd = [
    { ...stepLine(1), expertLoad: "abc" },
    { ...stepLine(1), expertLoad: [{ layer: 0, maxOverMean: "1" }] },
    { ...stepLine(1), expertLoad: [null] },
    { kind: "step", step: 1.5 },
    { kind: "eval", step: 1, network: "constructor" },
    { kind: "sample", step: 1, prompt: "x" },
    { kind: "message", step: 1 },
  ];
  for (const line of odd) addLine(dir, line);
  addText(dir, '{"kind":"step","step":1e999}\n');
  addLine(dir, { ...stepLine(1), expertLoad: [{ layer: 0, maxOverMean: null, entropy: null, dead: 0 }] });
  addLine(dir, { kind: "a later version's", step: 1 });
  const { store, timers } = await followed(t, folder);
  await store.refresh();
  assert.deepEqual(stepsOf(store), { a: 1 });
  assert.deepEqual(store.runs[0].record.broken, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(timers(), 1);
  store.changed = () => {
    throw new Error("a panel fails");
  };
  await assert.rejects(store.refresh(), /a panel fails/);
  assert.equal(timers(), 2);
});

test("a record takes no network by a name that every object has, and no peak that is no number", async () => {
  const { RunRecord } = (await import(new URL("../../page/record.js", import.meta.url).href)) as {
    RunRecord: new () => RunRecord;
  };
  const record = new RunRecord();
  const evals = ["constructor", "__proto__", "toString", "trained"].map((network) => ({
    kind: "eval",
    step: 1,
    network,
  }));
  const peaks = [7, "9", null].map((peakBytes, i) => ({ ...stepLine(i + 1), peakBytes }));
  record.add({ events: [...evals, ...peaks], lines: 7, broken: [] });
  assert.deepEqual([record.evals.trained.step, record.highest?.step], [[1], 1]);
});

test("a run that was away for a moment comes back with all of its history", async (t) => {
  const folder = makeFolder(t);
  const dir = makeRun(folder, "a", 5);
  makeRun(folder, "b", 2);
  const { store } = await followed(t, folder);
  await store.refresh();
  renameSync(dir, join(folder, ".away"));
  await store.refresh();
  assert.deepEqual(stepsOf(store), { b: 2 });
  renameSync(join(folder, ".away"), dir);
  addLine(dir, stepLine(6));
  await store.refresh();
  // A run that trains is shown by itself; this one has ended, so a person shows it.
  for (const run of store.runs) Object.assign(run, { shown: true });
  await store.refresh();
  assert.deepEqual(stepsOf(store), { a: 6, b: 2 });
});
