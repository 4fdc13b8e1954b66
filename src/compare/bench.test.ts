// Whole benches on a model of a few thousand parameters: the figures agree with one another and with the equations.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "../errors.js";
import { bench, type BenchResult } from "./bench.js";
import type { BenchRow } from "./rows.js";
import { type BenchSettings, resolveBench } from "./settings.js";
import { depthChart } from "./svg.js";
import { describeBench } from "./table.js";

const FOLDER = fileURLToPath(new URL("../../test/golden/hf-tiny", import.meta.url));
const CONFIG = `${FOLDER}/config.json`;
const TOKENS = 64;
const WIDTH = 24;

const settingsOf = (given: Partial<BenchSettings>): BenchSettings =>
  resolveBench({
    model: CONFIG,
    threads: 1,
    compute_dtype: "float32",
    max_length: [32],
    per_device_train_batch_size: 2,
    steps: 2,
    ...given,
  });

const find = ({ rows }: BenchResult, wanted: Partial<BenchRow>): BenchRow => {
  const found = rows.find((row) =>
    Object.entries(wanted).every(([key, value]) => row[key as keyof BenchRow] === value),
  );
  assert.ok(found, JSON.stringify(wanted));
  return found;
};

let deep: BenchResult;
before(async () => {
  deep = await bench(
    settingsOf({ layers: [4, 24], coupling: ["ordinary", "momentum"], gamma: [0.25], memory_limit: "4 MiB" }),
  );
});

const growthOf = (
  result: BenchResult,
  wanted: Partial<BenchRow>,
  figure: "activationBytes" | "hostBytes" | "bitBytes",
): number =>
  (Number(find(result, { ...wanted, layers: 24 })[figure]) - Number(find(result, { ...wanted, layers: 4 })[figure])) /
  20;
const ROUTING = TOKENS * 2;

test("what each method keeps of a further block is what its definition says", () => {
  const growth = (wanted: Partial<BenchRow>, figure: Parameters<typeof growthOf>[2]) => growthOf(deep, wanted, figure);
  const stream = TOKENS * WIDTH * 4;
  assert.equal(growth({ method: "checkpoint", coupling: "ordinary" }, "activationBytes"), stream + ROUTING);
  assert.equal(growth({ method: "checkpoint-offload", coupling: "ordinary" }, "hostBytes"), stream);
  assert.equal(
    growth({ method: "checkpoint", coupling: "momentum", gamma: 0.25 }, "activationBytes"),
    2 * stream + ROUTING,
  );
  assert.equal(growth({ method: "reversible", gamma: 0.25 }, "bitBytes"), stream / 16);
  assert.equal(growth({ method: "reversible", gamma: 0.25 }, "activationBytes"), stream / 16 + ROUTING);
});

test("of a list of gammas each is a network of its own, and whole ones keep no bits", async () => {
  const whole = await bench(
    settingsOf({
      ...{ layers: [4, 24], methods: ["reversible"], coupling: ["momentum"], gamma: [0.5, -1] },
      ...{ steps: 1, gradients: false },
    }),
  );
  assert.equal(growthOf(whole, { gamma: -1 }, "activationBytes"), ROUTING);
  assert.notEqual(find(whole, { gamma: -1, layers: 4 }).loss, find(whole, { gamma: 0.5, layers: 4 }).loss);
  assert.match(describeBench(whole), /\nreversible, momentum -1 .* 128 B$/);
});

test("gradients and losses of one network are the same bits with every method", () => {
  for (const { method, coupling, gamma, layers, status, gradRelativeError, loss } of deep.rows) {
    if (status !== "ok") continue;
    assert.equal(gradRelativeError, 0, `${method} ${coupling} ${gamma}`);
    assert.equal(loss, find(deep, { method: "checkpoint", coupling, gamma, layers }).loss);
  }
  const losses = new Set(
    deep.rows.filter(({ layers, status }) => layers === 4 && status === "ok").map(({ loss }) => loss),
  );
  assert.equal(losses.size, 2, "two networks");
});

test("a method that needs more than the limit is a row that says so, and the others go on", () => {
  for (const coupling of ["ordinary", "momentum"] as const) {
    const row = find(deep, { method: "store", coupling, layers: 24 });
    assert.equal(row.status, "out of memory");
    assert.deepEqual([row.peakBytes, row.stepMs, row.gradRelativeError, row.tokens], [null, null, null, TOKENS]);
    assert.equal(find(deep, { method: "checkpoint", coupling, layers: 24 }).status, "ok");
  }
  assert.equal(find(deep, { method: "store", coupling: "ordinary", layers: 4 }).status, "ok");
  assert.ok(deep.rows.every(({ peakBytes }) => peakBytes === null || peakBytes <= 4 * 2 ** 20));
});

test("the terms add up to the peak, and rates are those of the times", () => {
  assert.equal(deep.rows.length, 2 * (3 + 4));
  for (const row of deep.rows.filter(({ status }) => status === "ok")) {
    const terms = ["weightBytes", "stateBytes", "gradientBytes", "streamBytes", "keptBytes", "workBytes"] as const;
    assert.equal(
      terms.reduce((sum, term) => sum + Number(row[term]), 0),
      row.peakBytes,
    );
    assert.equal(row.activationBytes, Number(row.peakBytes) - Number(row.weightBytes) - Number(row.stateBytes));
    assert.equal(row.stateBytes, 2 * Number(row.weightBytes));
    assert.ok(Number(row.workBytes) > 0 && Number(row.rssPeakBytes) > Number(row.peakBytes) && Number(row.stepMs) > 0);
    // The median of rates is not the rate of the median; of two steps they are near.
    assert.ok(Number(row.tokensPerSecond) >= (TOKENS / Number(row.stepMs)) * 999.9);
  }
});

test("the text has each row's figures beside checkpointing's, and each depth", () => {
  const text = describeBench(deep);
  assert.match(
    text,
    /^model: .*config\.json\nlibtorch \S+ on cpu, 1 thread\(s\), computing in float32, weights in float32\n/,
  );
  assert.match(text, /4 blocks, 64 tokens a step\n/);
  assert.match(text, /\ncheckpoint, ordinary +\d+ ms +1\.00x +\d+ +\S+ \S+ +1\.00x +\S+ \S+ +1\.00x +0\n/);
  assert.match(text, /\nstore, ordinary +out of memory\n/);
  assert.match(text, /against depth\n +4 blocks +24 blocks +each further block\n/);
  assert.match(text, /\nstore, ordinary +\S+ \S+ +out of memory +-\n/);
});

test("the drawing is well-formed: a line for each method that ran, a cross for what did not", () => {
  const drawn = depthChart(deep.rows, "a < b & c");
  const open: string[] = [];
  for (const [, closing, name, rest] of drawn.matchAll(/<(\/?)([a-z]+)([^<>]*)>/g)) {
    if (closing) assert.equal(open.pop(), name);
    else if (!rest.endsWith("/")) open.push(name);
    assert.match(rest, /^( [a-zA-Z:-]+="[^"<]*")*\/?$/, rest);
  }
  assert.deepEqual(open, []);
  assert.ok(drawn.includes("a &lt; b &amp; c") && !/NaN|undefined|null/.test(drawn));
  const ran = new Set(
    deep.rows
      .filter(({ status }) => status === "ok")
      .map(({ method, coupling, gamma }) => `${method} ${coupling} ${gamma}`),
  );
  assert.equal(drawn.match(/<path d="M[\d.]+ [\d.]+L|<path d="M[\d.]+ [\d.]+" stroke/g)?.length, ran.size);
  assert.equal(drawn.match(/l10 10m0 -10l-10 10/g)?.length, deep.rows.filter(({ status }) => status !== "ok").length);
});

test("a folder's own depth has its weights, another depth random ones", async () => {
  const checkpoint = { methods: ["checkpoint" as const], layers: [3, 2], steps: 1, gradients: false };
  const { rows } = await bench(settingsOf({ ...checkpoint, model: FOLDER }));
  const random = await bench(settingsOf(checkpoint));
  assert.deepEqual(
    rows.map(({ layers }) => layers),
    [3, 2],
  );
  assert.notEqual(rows[0].loss, random.rows[0].loss);
  assert.equal(rows[1].loss, random.rows[1].loss);
  assert.deepEqual([random.rows[0].gradRelativeError, deep.rows[0].gradRelativeError], [null, 0]);
});

test("float streams are rebuilt with an error, and the row shows it", async () => {
  const { rows } = await bench(
    settingsOf({
      methods: ["store", "reversible"],
      coupling: ["momentum"],
      gamma: [-0.5],
      stream: "float32",
      steps: 1,
    }),
  );
  const [stored, rebuilt] = rows.map(({ gradRelativeError }) => Number(gradRelativeError));
  assert.equal(stored, 0);
  assert.ok(rebuilt > 0 && rebuilt < 1e-2, String(rebuilt));
});

test("an abort is thrown, and nothing is left behind", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-abort-"));
  const before = process.env.TMPDIR;
  process.env.TMPDIR = folder;
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(folder, { recursive: true });
  });
  const controller = new AbortController();
  const running = bench(settingsOf({ steps: 1000 }), { signal: controller.signal });
  assert.equal(readdirSync(folder).length, 1);
  setTimeout(() => controller.abort(), 300);
  await assert.rejects(running, { name: "AbortError" });
  assert.deepEqual(readdirSync(folder), []);
});

test("what would make every row fail is said at once", async () => {
  for (const [given, pattern] of [
    [{ model: "/nowhere" }, /\/nowhere: no such folder/],
    [{ model: fileURLToPath(import.meta.url) }, /bench\.test\.js: cannot be read as JSON/],
    [{ device: "cuda:99" }, /device: cuda:99 is not there/],
    [{ train_file: "rows.jsonl" }, /train_file: needs a tokenizer, and .*config\.json is a file by itself/],
    [{ model: FOLDER, train_file: "/nowhere.jsonl" }, /nowhere\.jsonl/],
  ] as [Partial<BenchSettings>, RegExp][]) {
    await assert.rejects(
      bench(settingsOf(given)),
      (failure: Error) => failure instanceof UserError && pattern.test(failure.message),
    );
  }
});
