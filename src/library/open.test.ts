// An open model as programs have it: text in pieces, facts, and nothing left when it is closed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { runCli } from "../cli/program.js";
import { COMMANDS } from "../commands/registry.js";
import { open, UserError } from "../index.js";
import { ledger } from "../torch/memory.js";
import { makeWorkplace, runTraining, settingsFor } from "../train/testing-run.js";

const OPTIONS = { compute_dtype: "float32", threads: 1 } as const;
const alive = (): number[] => {
  const { tensors, liveBytes, mappedBytes } = ledger();
  return [tensors, liveBytes, mappedBytes];
};

async function textOf(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

test("a text comes in pieces, the same as the command's, and closing frees all", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 2 }));
  const before = alive();
  let notes = "";
  const model = await open(place.out(), { ...OPTIONS, output: { write: (text) => (notes += text) } });
  assert.match(notes, /its model is taken from \S+final$/m);
  assert.equal(model.folder, join(place.out(), "final"));
  assert.equal(model.network.coupling, "momentum");
  assert.equal(
    model.info.layers.reduce((sum, { count }) => sum + count, 0),
    3,
  );
  assert.deepEqual(alive(), before, "no weights yet");
  const generation = model.generate("The sum of ", { max_new_tokens: 9, seed: 5 });
  const pieces: string[] = [];
  for await (const piece of generation) pieces.push(piece);
  assert.ok(pieces.length > 1 && generation.tokens >= pieces.length && generation.promptTokens === 11, String(pieces));
  assert.ok(Number(generation.msPerToken) > 0);
  assert.equal(await textOf(model.generate("The sum of ", { max_new_tokens: 9, seed: 5 })), pieces.join(""));
  assert.notEqual(await textOf(model.generate("The sum of ", { max_new_tokens: 9, seed: 6 })), pieces.join(""));
  let told = "";
  const out = { write: (text: string) => (told += text) };
  const words = `--model ${model.folder} --max-new-tokens 9 --seed 5 --compute-dtype float32 --threads 1`.split(" ");
  const commandLine = ["generate", ...words, "--prompt", "The sum of ", "--json"];
  assert.equal(await runCli({ version: () => "0", commands: COMMANDS }, commandLine, out, out), 0, told);
  assert.equal((JSON.parse(told) as { text: string }).text, pieces.join(""));
  model.close();
  model.close();
  assert.deepEqual(alive(), before);
  assert.throws(() => model.generate("a"), { name: "UserError", message: /is closed\. Open it again\.$/ });
});

test("leaving a text early, closing in the middle of one and `using` leave nothing", async (t) => {
  const place = makeWorkplace(t);
  const before = alive();
  const model = await open(place.model, OPTIONS);
  for await (const _ of model.generate("The ", { max_new_tokens: 20 })) break;
  const loaded = alive();
  const [one, two] = [1, 2].map((seed) => model.generate("The ", { max_new_tokens: 20, seed }));
  const interleaved = one[Symbol.asyncIterator]();
  const first = await interleaved.next();
  assert.equal(typeof first.value, "string");
  await textOf(two);
  await assert.rejects(textOf(two), /was read already/);
  for await (const _ of model.generate("The ", { max_new_tokens: 20, seed: 3 })) break;
  await interleaved.return?.();
  assert.deepEqual(alive(), loaded);
  await assert.rejects(async () => {
    for await (const _ of model.generate("The ", { max_new_tokens: 20 })) model[Symbol.dispose]();
  }, /was closed before the text ended/);
  assert.deepEqual(alive(), before);
});

test("what is wrong is a sentence: at opening, or when a text is asked for, before weights are read", async (t) => {
  const place = makeWorkplace(t);
  const before = alive();
  await assert.rejects(open(join(place.folder, "none")), { name: "UserError" });
  await assert.rejects(open(place.model, { as: "trained" }), /^UserError: as: trained is not possible/);
  await assert.rejects(open(place.model, { device: "tpu" }), /^UserError: device tpu is not possible/);
  const model = await open(place.model, OPTIONS);
  const cases: [string, object, RegExp][] = [
    ["The ", { temperatur: 1 }, /^temperatur is unknown\. Did you mean temperature\?$/],
    ["The ", { temperature: 0, top_p: 0.5 }, /^top_p 0\.5 has no effect/],
    ["The ", { max_new_tokens: 100000 }, /^max_new_tokens: 100000 behind a prompt of 4 go beyond/],
    ["", {}, /prompt/],
    ["The ", { chat: true }, /has no chat template/],
  ];
  for (const [prompt, options, message] of cases)
    assert.throws(
      () => model.generate(prompt, options),
      (failure) => failure instanceof UserError && message.test(failure.message),
      String(message),
    );
  assert.deepEqual(alive(), before);
  model.close();
});
