// `revmoe data` as a person and a machine see it.
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { runCli } from "../cli/program.js";
import { CHATML, folderOf, tokenizerJson } from "../data/tokenizer/testing-tokenizer.js";
import { COMMANDS } from "./registry.js";

async function data(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const said = { out: "", err: "" };
  const to = (name: "out" | "err") => ({ write: (text: string) => (said[name] += text) });
  const code = await runCli({ version: () => "0", commands: COMMANDS }, ["data", ...words], to("out"), to("err"));
  return { code, ...said };
}

function place(t: TestContext): { folder: string; model: string; rows: string } {
  const config = { eos_token: "<|im_end|>", chat_template: CHATML };
  const folder = folderOf(t, { "tokenizer.json": tokenizerJson(), "tokenizer_config.json": config });
  const rows = join(folder, "chats.jsonl");
  const turn = (content: string) => [
    { role: "user", content: "hello" },
    { role: "assistant", content },
  ];
  const lines = ["hello", "b", "b", "ab ".repeat(20)].map((content) => JSON.stringify({ messages: turn(content) }));
  writeFileSync(rows, lines.join("\n"));
  return { folder, model: folder, rows };
}

test("rows with marks, then what all of them are", async (t) => {
  const { model, rows } = place(t);
  const { code, out } = await data(rows, "--model", model, "--rows", "1", "--max-length", "48");
  assert.equal(code, 0);
  assert.ok(
    out.startsWith(
      `row 1 (${rows}:1): 23 tokens, 2 trained\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n«hello<|im_end|>»\n\n` +
        `${rows}: 4 rows of format messages, `,
    ),
    out,
  );
  assert.match(out, /max_length 48: 1 row cut, 0 split, 0 dropped/);
  assert.match(out, /trained parts end with: <\|im_end\|> 3 times\n/);
  assert.match(
    out,
    /duplicates: 1 document is as an earlier one; the first is \S+chats\.jsonl:3, as \S+chats\.jsonl:2\n/,
  );
  assert.match(out, /17 to 32 {2}#{40} {2}3\n/);
  assert.match(out, /^32 +1 \(25\.0 %\) +\d+ +\d+ +0$/m);
  assert.ok(!out.includes("row 2 ("));
});

test("--json: a line for each row and nothing else; the summary stands beside it", async (t) => {
  const { model, rows } = place(t);
  const { code, out, err } = await data(rows, "--model", model, "--json");
  assert.equal(code, 0);
  const lines = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(lines.length, 4);
  assert.deepEqual(lines[1], {
    row: 2,
    tokens: 23,
    trainedTokens: 2,
    marked: "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n«b<|im_end|>»\n",
  });
  assert.match(err, /: 4 rows of format messages/);
  const both = (await data(rows, rows, "--model", model, "--json", "--rows", "5")).out.trim().split("\n");
  assert.equal((JSON.parse(both[4]) as { place?: string }).place, `${rows}:1`);
  assert.equal((await data(rows, "--model", model, "--json", "--rows", "2")).out.trim().split("\n").length, 2);
});

test("--help says what --json prints", async () => {
  assert.match((await data("--help")).out, /--json +print a JSON line for each row/);
});

test("--html writes a page; colours only where a terminal shows them", async (t) => {
  const { folder, model, rows } = place(t);
  const page = join(folder, "rows.html");
  const { code, out, err } = await data(rows, "--model", model, "--html", page, "--rows", "2");
  assert.equal(code, 0);
  assert.equal(err, `${page}: 2 rows written as a page\n`);
  assert.match(readFileSync(page, "utf8"), /class="t s">&lt;\|im_end\|&gt;</);
  assert.ok(!out.includes("\u001b"));
});

test("what is wrong is one sentence, and rows before it are shown", async (t) => {
  const { folder, model, rows } = place(t);
  writeFileSync(rows, `${readFileSync(rows, "utf8")}\n{"messages":3}`);
  const bad = await data(rows, "--model", model, "--rows", "2");
  assert.equal(bad.code, 2);
  assert.match(bad.err, /^revmoe: \S+chats\.jsonl:5: messages is the number 3/);
  assert.match(bad.out, /^row 1 .*^row 2 /ms);
  const none = await data(join(folder, "none.jsonl"), "--model", model);
  assert.deepEqual([none.code, none.out], [2, ""]);
  assert.match(none.err, /none\.jsonl: there is no such file/);
  const missing = await data(rows, "--model", join(folder, "nothing"));
  assert.match(missing.err, /nothing: no such folder/);
  assert.ok(!existsSync(join(folder, "nothing")));
});

test("what the model's files say of the rows is noted as before a run", async (t) => {
  const { folder, model, rows } = place(t);
  const text = join(folder, "text.jsonl");
  const talks = join(folder, "talks.jsonl");
  const turns = { prompt: [{ role: "user", content: "b" }], completion: [{ role: "assistant", content: "b" }] };
  writeFileSync(text, '{"text": "hello hello"}\n');
  writeFileSync(talks, JSON.stringify(turns));
  writeFileSync(join(folder, "config.json"), '{"max_position_embeddings": 40}');
  const [ends, positions] = [
    /note: the tokenizer names no end token/,
    /note: max_length 48 is more than the 40 positions/,
  ];
  const noted = async (file: string, length: string): Promise<boolean[]> => {
    const { out } = await data(file, "--model", model, "--max-length", length);
    return [ends.test(out), positions.test(out)];
  };
  assert.deepEqual(await noted(text, "48"), [false, true]);
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ chat_template: CHATML }));
  assert.deepEqual(await noted(text, "40"), [true, false]);
  for (const file of [rows, talks]) assert.deepEqual(await noted(file, "40"), [false, false]);
});

test("tokens that the model does not have are refused as before a run", async (t) => {
  const { folder, model } = place(t);
  const ids = join(folder, "ids.jsonl");
  writeFileSync(ids, '{"input_ids": [1, 2, 3]}\n{"input_ids": [1, 300, 2]}\n');
  assert.equal((await data(ids, "--model", model)).code, 0);
  writeFileSync(join(folder, "config.json"), '{"vocab_size": 280}');
  const { code, err } = await data(ids, "--model", model);
  assert.equal(code, 2);
  assert.match(err, /ids\.jsonl:2: token 300 is outside the model's vocabulary of 280\. .* input_ids of the row/);
});
