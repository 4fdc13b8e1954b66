// `revmoe bench` as a person runs it: the document for machines, a row that fails, a drawing, and every way to call it wrongly.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import type { BenchResult } from "../../compare/bench.js";
import { makeWorkplace } from "../../train/testing-run.js";
import { revmoe } from "../../cli/testing-command.js";

const FOLDER = fileURLToPath(new URL("../../../test/golden/hf-tiny", import.meta.url));
const QUICK = [
  "--threads",
  "1",
  "--steps",
  "1",
  "--max-length",
  "16",
  "--per-device-train-batch-size",
  "2",
  "--compute-dtype",
  "float32",
];

const bench = (...words: string[]) => revmoe("bench", ...words);

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), "revmoe-bench-command-"));
  t.after(() => rmSync(made, { recursive: true }));
  return made;
}

test("--json prints one document with the fields of the contract, and --svg draws", async (t) => {
  const svg = join(folder(t), "depth.svg");
  const { status, stdout, stderr } = await bench(
    "--model",
    FOLDER,
    ...QUICK,
    "--layers",
    "3,5",
    "--methods",
    "store,reversible",
    "--svg",
    svg,
    "--json",
  );
  assert.deepEqual([status, stderr], [0, ""]);
  const document = JSON.parse(stdout) as BenchResult;
  assert.deepEqual([document.model, document.tokens, document.device, document.notes], [FOLDER, 32, "cpu", []]);
  assert.deepEqual(
    document.rows.map(({ method, coupling, gamma, optimizer, layers, tokens, status }) => [
      method,
      coupling,
      gamma,
      optimizer,
      layers,
      tokens,
      status,
    ]),
    [
      ["store", "ordinary", null, "adamw", 3, 32, "ok"],
      ["reversible", "momentum", -1 / 256, "adamw", 3, 32, "ok"],
      ["store", "ordinary", null, "adamw", 5, 32, "ok"],
      ["reversible", "momentum", -1 / 256, "adamw", 5, 32, "ok"],
    ],
  );
  for (const row of document.rows) {
    for (const figure of [
      "peakBytes",
      "activationBytes",
      "stateBytes",
      "gradientBytes",
      "weightBytes",
      "tokensPerSecond",
      "stepMs",
      "loss",
    ] as const) {
      assert.ok(Number(row[figure]) > 0, figure);
    }
    assert.equal(row.gradRelativeError, 0);
  }
  assert.match(readFileSync(svg, "utf8"), /^<svg [\s\S]*<\/svg>\n$/);
});

test("rows of a file are trained on; a file that does not fit the model is a row's failure", async (t) => {
  const work = makeWorkplace(t);
  const words = ["--model", work.model, ...QUICK, "--methods", "checkpoint"];
  const good = await bench(...words, "--train-file", work.rows, "--json");
  const { rows } = JSON.parse(good.stdout) as BenchResult;
  assert.deepEqual([good.status, rows[0].status, rows[0].gradRelativeError], [0, "ok", 0]);
  assert.ok(rows[0].tokens > 16 && rows[0].tokens <= 32);
  writeFileSync(work.rows, '{"text": ""}\n');
  const bad = await bench(...words, "--train-file", work.rows);
  assert.equal(bad.status, 1);
  assert.match(bad.stdout, /\ncheckpoint, ordinary +failed\n/);
  assert.match(bad.stdout, /\ncheckpoint, ordinary, 3 blocks: failed: \S.*\n$/);
});

test("out of memory is a row, not a failure", async () => {
  const { status, stdout, stderr } = await bench(
    "--model",
    FOLDER,
    ...QUICK,
    "--methods",
    "store,checkpoint",
    "--memory-limit",
    "450KiB",
  );
  assert.equal(status, 0);
  assert.match(stdout, /\nstore, ordinary +out of memory\ncheckpoint, ordinary +\d+ ms/);
  assert.match(
    stderr,
    /^store, ordinary, 3 blocks, rows of 16 tokens: out of memory\ncheckpoint, .*: \d+ ms a step\n$/,
  );
});

test("bad input: exit code 2, and one line that says what to do", async (t) => {
  for (const [words, pattern] of [
    [[], /--model FOLDER\|FILE is missing/],
    [["--model", "/nowhere"], /\/nowhere: no such folder/],
    [["--model", folder(t)], /no config\.json/],
    [
      ["--model", FOLDER, "--methods", "store,reversibel"],
      /--methods store,reversibel is not possible .*Did you mean reversible\?/,
    ],
    [
      ["--model", FOLDER, "--layers", "4,x"],
      /--layers 4,x is not possible \(expected an integer from 1 to 512; several with commas/,
    ],
    [["--model", FOLDER, "--coupling", "ordinary", "--methods", "reversible"], /cannot be reversed/],
    [["--model", FOLDER, "--memory-limit", "8G"], /--memory-limit 8G is not possible/],
    [["--model", FOLDER, "--layers", "2,4", "--svg", "/nowhere/x.svg"], /svg: \/nowhere\/x\.svg cannot be written/],
    [
      ["--model", FOLDER, "--layers", "2,4", "--svg", join(FOLDER, "config.json")],
      /config\.json exists and is no \.svg file, so it stays/,
    ],
  ] as [string[], RegExp][]) {
    const { status, stdout, stderr } = await bench(...words);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, /^revmoe: [^\n]*\n$/);
    assert.match(stderr, pattern);
  }
});
