// The command from words to text on a tiny model with a byte-level tokenizer, and every way to call it wrongly.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { saveModel } from "../../checkpoint/save.js";
import { folderFiles } from "../../checkpoint/source.js";
import { CONFIG, tinyModel } from "../../checkpoint/testing-model.js";
import { type Program, runCli } from "../../cli/program.js";
import { CHATML, folderOf, tokenizerJson } from "../../data/tokenizer/testing-tokenizer.js";
import type { Output } from "../../metrics/output.js";
import { freeModel } from "../../model/model.js";
import { ledger } from "../../torch/memory.js";
import { COMMANDS } from "../registry.js";

const SHAPE = { ...CONFIG, vocab_size: 267, max_position_embeddings: 64, initializer_range: 0.3 };
const MOMENTUM = { coupling: "momentum", gamma: -1, stream: "int32", streamFractionBits: 16 };

const program: Program = { version: () => "1.2.3", commands: COMMANDS };

/** A checkpoint with random weights in a folder of its own, removed after the test. */
function checkpoint(t: TestContext, tokenizer: object = {}, network?: object): string {
  const source = folderOf(t, {
    "config.json": SHAPE,
    "tokenizer.json": tokenizerJson(),
    "tokenizer_config.json": { eos_token: "<|im_end|>", ...tokenizer },
  });
  const model = tinyModel("float32", SHAPE);
  const folder = join(source, "model");
  saveModel(folder, model, { source: folderFiles(source) });
  freeModel(model);
  if (network) writeFileSync(join(folder, "revmoe.json"), JSON.stringify(network));
  return folder;
}

interface Ran {
  code: number;
  out: string;
  err: string;
  pieces: string[];
}

async function run(...words: string[]): Promise<Ran> {
  const [pieces, err]: string[][] = [[], []];
  const before = ledger();
  const into = (list: string[]): Output => ({ write: (text) => list.push(text) });
  const code = await runCli(program, ["generate", ...words], into(pieces), into(err));
  const after = ledger();
  for (const figure of ["tensors", "liveBytes", "mappedBytes"] as const) {
    assert.equal(after[figure], before[figure], figure);
  }
  return { code, out: pieces.join(""), err: err.join(""), pieces };
}

interface Document {
  prompt: string;
  text: string;
  tokens: number;
  promptTokens: number;
  msPerToken: number | null;
  network: Record<string, unknown>;
}

async function document(...words: string[]): Promise<Document> {
  const { code, out, err, pieces } = await run(...words, "--json", "--compute-dtype", "float32", "--threads", "1");
  assert.deepEqual([code, err, pieces.length], [0, "", 1]);
  return JSON.parse(out) as Document;
}

async function refused(words: string[], pattern: RegExp): Promise<void> {
  const { code, out, err } = await run(...words);
  assert.equal(code, 2, err);
  assert.equal(out, "");
  assert.match(err, /^revmoe: [^\n]*\n$/);
  assert.match(err, pattern);
}

test("text comes in pieces; --json has the same text with its counts", async (t) => {
  const model = checkpoint(t);
  const sampling = ["--max-new-tokens", "40", "--temperature", "1.5", "--top-p", "1"];
  const words = ["--model", model, "--prompt", "hello world", ...sampling];
  const { code, out, err, pieces } = await run(...words, "--compute-dtype", "float32", "--threads", "1");
  assert.deepEqual([code, err], [0, ""]);
  assert.ok(pieces.length > 5, `${pieces.length} pieces`);
  assert.equal(pieces.at(-1), "\n");
  const made = await document(...words);
  assert.equal(`${made.text}\n`, out);
  assert.deepEqual(Object.keys(made), ["prompt", "text", "tokens", "promptTokens", "msPerToken", "network"]);
  assert.deepEqual([made.prompt, made.promptTokens], ["hello world", 5]);
  assert.deepEqual(made.network, { coupling: "ordinary", stream: "float32" });
  assert.ok(made.tokens > 0 && made.tokens <= 40 && (made.msPerToken ?? 0) > 0);
  assert.notEqual((await document(...words, "--seed", "7")).text, made.text);
});

test("one token has no time per token; the likeliest needs no seed", async (t) => {
  const model = checkpoint(t);
  const made = await document("--model", model, "--prompt", "a", "--max-new-tokens", "1", "--temperature", "0");
  assert.deepEqual([made.tokens, made.msPerToken], [1, null]);
});

test("by default no more tokens than the model has positions for, which is said; a number that is given is meant", async (t) => {
  const model = checkpoint(t);
  const likeliest = ["--model", model, "--temperature", "0", "--compute-dtype", "float32", "--threads", "1"];
  // Of the 64 positions the last new token needs none.
  for (const [prompt, tokens] of [
    ["a", 1],
    ["hello world", 5],
    ["a".repeat(64), 64],
  ] as const) {
    const { code, err, out } = await run(...likeliest, "--prompt", prompt, "--json");
    assert.equal(code, 0, err);
    const left = 65 - tokens;
    assert.equal(
      err,
      `note: at most ${left} new tokens, for the model has 64 positions and the prompt takes ${tokens}\n`,
    );
    assert.ok((JSON.parse(out) as Document).tokens <= left);
  }
  await refused([...likeliest, "--prompt", "a".repeat(65)], /Shorten the prompt\.$/m);
  await refused([...likeliest, "--prompt", "a", "--max-new-tokens", "128"], /Set max_new_tokens to at most 64\.$/m);
});

test("a folder is the network that it was trained as, unless said otherwise", async (t) => {
  const model = checkpoint(t, {}, MOMENTUM);
  const words = ["--model", model, "--prompt", "hello", "--max-new-tokens", "20", "--temperature", "0"];
  const byDefault = await document(...words);
  assert.deepEqual(byDefault.network, MOMENTUM);
  assert.deepEqual((await document(...words, "--as", "trained")).text, byDefault.text);
  const asOrdinary = await document(...words, "--as", "ordinary");
  assert.deepEqual(asOrdinary.network, { coupling: "ordinary", stream: "float32" });
  rmSync(join(model, "revmoe.json"));
  assert.equal((await document(...words)).text, asOrdinary.text);
  assert.notEqual(asOrdinary.text, byDefault.text);
  await refused([...words, "--as", "trained"], /as: trained is not possible: .* has no revmoe\.json/);
});

test("--chat puts the prompt into the template; a beginning-of-text token goes before a plain prompt", async (t) => {
  const chat = checkpoint(t, { chat_template: CHATML });
  const words = ["--prompt", "hello", "--max-new-tokens", "2"];
  // <|im_start|> "user\n" hello <|im_end|> "\n" <|im_start|> "assistant\n": a token per byte beside specials and hello.
  assert.equal((await document("--model", chat, ...words, "--chat")).promptTokens, 1 + 5 + 1 + 1 + 1 + 1 + 10);
  assert.equal((await document("--model", chat, ...words)).promptTokens, 1);
  const begun = checkpoint(t, { bos_token: "<|endoftext|>", add_bos_token: true });
  assert.equal((await document("--model", begun, ...words)).promptTokens, 2);
  const written = ["--prompt", "<|endoftext|>hello", "--max-new-tokens", "2"];
  assert.equal((await document("--model", begun, ...written)).promptTokens, 2);
  await refused(["--model", begun, ...words, "--chat"], /chat: .* has no chat template .*Leave chat out/);
});

test("bad input: exit code 2, and one line that says what to do", async (t) => {
  const model = checkpoint(t);
  const prompt = ["--prompt", "hello"];
  await refused(prompt, /--model FOLDER is missing/);
  await refused(["--model", join(model, "nowhere"), ...prompt], /nowhere: no such folder\./);
  await refused(["--model", join(model, "config.json"), ...prompt], /config\.json: is a file/);
  await refused(["--model", model], /--prompt TEXT is missing/);
  await refused(["--model", model, "--prompt", ""], /--prompt "" is not possible .*a text that is not empty/);
  await refused(["--model", model, ...prompt, "--as", "ordinarry"], /--as ordinarry is not .*Did you mean ordinary\?/);
  await refused(["--model", model, ...prompt, "--top-p", "0"], /--top-p 0 is not possible/);
  await refused(["--model", model, ...prompt, "--device", "gpu"], /--device gpu is not possible/);
  await refused(["--model", model, ...prompt, "--device", "cuda:99"], /device: cuda:99 is not there/);
  await refused(["--model", model, ...prompt, "--max-length", "9"], /--max-length is unknown\. Use max_new_tokens\./);
  await refused(["--model", model, ...prompt, "--max-new-tokens", "65"], /is 64\)\. Set max_new_tokens to at most 64/);
  const idle = ["--temperature", "0", "--top-k", "5"];
  await refused(["--model", model, ...prompt, ...idle], /--top-k 5 has no effect: --temperature 0 always takes/);
  writeFileSync(join(model, "revmoe.json"), "{}");
  await refused(["--model", model, ...prompt], /revmoe\.json: is not a description of a network/);
  rmSync(join(model, "revmoe.json"));
  rmSync(join(model, "tokenizer.json"));
  await refused(["--model", model, ...prompt], /there is no tokenizer\.json/);
});
