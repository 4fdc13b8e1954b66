// `revmoe info` on golden models of several kinds: what it says is what their files say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { runCli } from "../../cli/program.js";
import { COMMANDS } from "../registry.js";

const at = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

async function info(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: string[][] = [[], []];
  const into = (lines: string[]) => ({ write: (text: string) => lines.push(text) });
  const code = await runCli({ version: () => "1", commands: COMMANDS }, ["info", ...words], into(out), into(err));
  return { code, out: out.join(""), err: err.join("") };
}

test("layers by kind, parameters, dtype, decoding, templates and ends are those of the files", async () => {
  const facts = async (path: string) => JSON.parse((await info(at(path), "--json")).out) as Record<string, unknown>;
  const tiny = await facts("examples/tiny-moe");
  assert.deepEqual(tiny.layers, [{ kinds: ["attention, experts"], from: 0, count: 6 }]);
  assert.deepEqual(tiny.ends, { text: ["<|endoftext|>"], turn: "<|im_end|>" });
  assert.deepEqual(tiny.templates, ["default"]);
  const parameters = tiny.parameters as number;
  assert.deepEqual(tiny.bytes, { bfloat16: 2 * parameters });
  // Six of eight experts in each of six layers take no part: three matrices of 256 x 128.
  assert.equal(tiny.activeParameters, parameters - 6 * 6 * 3 * 256 * 128);

  const oss = await facts("test/golden/gptoss-mxfp4");
  assert.match(oss.decoding as string, /MXFP4/);
  assert.equal(oss.modelType, "gpt_oss");
  const dense = await facts("test/golden/glm4-plain");
  assert.deepEqual(
    (dense.layers as { from: number; count: number }[]).map(({ from, count }) => [from, count]),
    [
      [0, 1],
      [1, 2],
    ],
  );
});

test("what fits depends on the memory, and words are one screen", async () => {
  const model = at("examples/tiny-moe");
  assert.match((await info(model, "--memory", "1GiB")).out, /training here {2}--method store --coupling ordinary: \d/);
  assert.match(
    (await info(model, "--memory", "65MiB")).out,
    /--parameters disk .* in files for one row of 2048 tokens/,
  );
  assert.match((await info(model, "--memory", "1MiB")).out, /no way fits 1\.00 MiB: see revmoe plan/);
  const { out } = await info(model);
  assert.ok(out.split("\n").length < 25);
  assert.match(out, /^layers {9}0 to 5: attention, experts$/m);
});

test("bad input is one sentence", async () => {
  for (const [words, message] of [
    [[at("test/golden/templates")], /config\.json/],
    [["nothere"], /no such folder/],
    [[], /model/],
  ] as const) {
    const { code, err } = await info(...words);
    assert.equal(code, 2);
    assert.match(err, message);
    assert.equal(err.trim().split("\n").length, 1);
  }
});
