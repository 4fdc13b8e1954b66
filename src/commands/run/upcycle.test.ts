// The command from words to a folder that `generate` and `train` take, what it says, and the ways to call it wrongly.
import { isRouted } from "../../model/architecture.js";
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { checkFreeSpace } from "../../checkpoint/files/disk.js";
import { loadModel } from "../../checkpoint/load.js";
import { runCli } from "../../cli/program.js";
import type { Output } from "../../metrics/output.js";
import { freeModel } from "../../model/model.js";
import { denseFolder, temporaryFolder } from "../../upcycle/testing-dense.js";
import { COMMANDS } from "../registry.js";

const program = { version: () => "1.2.3", commands: COMMANDS };

async function run(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: string[][] = [[], []];
  const into = (list: string[]): Output => ({ write: (text) => list.push(text) });
  const code = await runCli(program, ["upcycle", ...words], into(out), into(err));
  return { code, out: out.join(""), err: err.join("") };
}

test("what comes out is said before it is written, and the folder is a model of ours", async (t) => {
  const folder = join(temporaryFolder(t), "moe");
  const words = [
    "--model",
    denseFolder("qwen2"),
    "--output-dir",
    folder,
    "--num-experts",
    "4",
    "--decoder-sparse-step",
    "3",
  ];
  const { code, out, err } = await run(...words);
  assert.deepEqual([code, err], [0, ""]);
  // An MLP has 3 x 36 x 24 weights; 4 experts and a shared one instead of one, with the routers' rows.
  assert.deepEqual(out.split("\n"), [
    "qwen2 -> qwen2_moe: 4 experts of width 36, 2 for a token, and a shared one of width 36, in 1 of 3 layers",
    "parameters  15.2 k -> 25.7 k, 20.5 k for a token",
    "function    equal to the dense model's at the start, up to rounding in float32",
    "disk        100 KiB in float32",
    `wrote ${folder}; reopened and compared`,
    "",
  ]);
  const model = loadModel(folder, { weightsDtype: "auto", device: "cpu" });
  assert.deepEqual(
    [model.architecture.modelType, model.architecture.layers.map(isRouted)],
    ["qwen2_moe", [false, false, true]],
  );
  freeModel(model);
});

test("--json is one document; noise and losses are why a function is not equal", async (t) => {
  const folder = join(temporaryFolder(t), "moe");
  const words = [
    "--model",
    denseFolder("qwen3"),
    "--output-dir",
    folder,
    "--num-experts",
    "4",
    "--weights-dtype",
    "bfloat16",
    "--json",
  ];
  const { out, err } = await run(...words);
  assert.equal(err, "");
  const { bytes, parameters, ...rest } = JSON.parse(out) as Record<string, unknown>;
  assert.equal(bytes, 2 * (parameters as number));
  assert.deepEqual(rest, {
    source: denseFolder("qwen3"),
    folder,
    from: "qwen3",
    to: "qwen3_moe",
    numExperts: 4,
    expertsPerToken: 2,
    expertWidth: 36,
    sharedExpertWidth: 0,
    sparseLayers: 2,
    layers: 2,
    equal: true,
    lost: [],
    notes: [],
    denseParameters: 18424,
    parametersPerToken: 23800,
    dtype: "bfloat16",
  });
  const other = join(temporaryFolder(t), "moe");
  const inexact = [
    "--model",
    denseFolder("qwen2"),
    "--output-dir",
    other,
    "--to",
    "mixtral",
    "--allow-inexact",
    "--noise",
    "0.01",
  ];
  const said = (await run(...inexact)).out;
  assert.match(
    said,
    /not equal to the dense model's: the biases of attention, which mixtral does not have; 0\.01 of each expert/,
  );
});

test("wrong words and full disks: one line, exit code 2, and no folder", async (t) => {
  const folder = join(temporaryFolder(t), "moe");
  const given = ["--model", denseFolder("llama"), "--output-dir", folder];
  const cases: [words: string[], message: RegExp][] = [
    [["--model", denseFolder("llama")], /--output-dir FOLDER is missing/],
    [
      [...given, "--experts-per-token", "1"],
      /--experts-per-token 1 is not possible \(expected an integer of at least 2\)/,
    ],
    [[...given, "--experts-per-token", "9"], /--experts-per-token 9 is more than num_experts 8 \(the default\)/],
    [[...given, "--num-experts-per-tok", "2"], /Use experts_per_token/],
    [[...given, "--noise", "2"], /expected a number from 0 to 1/],
    [[...given, "--router-std", "0"], /expected a number above 0/],
    [[...given, "--to", "olmoe"], /expected one of auto, mixtral, qwen3_moe, qwen2_moe/],
    [[...given, "--to", "qwen3_moe"], /this llama model would not compute the same at the start.*allow_inexact/],
    [[...given, "--allow-inexact"], /allow_inexact has no effect/],
  ];
  for (const [words, message] of cases) {
    const { code, out, err } = await run(...words);
    assert.deepEqual([code, out], [2, ""], words.join(" "));
    assert.match(err, message);
    assert.match(err, /^revmoe: [^\n]*\n$/);
    assert.equal(existsSync(folder), false);
  }
  writeFileSync(folder, "");
  assert.match((await run(...given)).err, /is not replaced, because it is a file \(expected a folder\)/);
  assert.throws(() => checkFreeSpace(folder, 2 ** 60), /are needed, but only .* are free on its disk/);
});
