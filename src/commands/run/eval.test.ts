// The command from words to figures: a run's own losses found again, choices and answers on the tiny model of examples/,
// and every way to call it wrongly.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { type Program, runCli } from "../../cli/program.js";
import type { Output } from "../../metrics/output.js";
import { ledger } from "../../torch/memory.js";
import { makeWorkplace, runTraining, settingsFor } from "../../train/testing-run.js";
import { COMMANDS } from "../registry.js";

const TINY = fileURLToPath(new URL("../../../examples/tiny-moe", import.meta.url));
const program: Program = { version: () => "1.2.3", commands: COMMANDS };
const COMPUTE = ["--compute-dtype", "float32", "--threads", "1"];

async function run(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: string[][] = [[], []];
  const before = ledger();
  const into = (list: string[]): Output => ({ write: (text) => list.push(text) });
  const code = await runCli(program, ["eval", ...words, ...COMPUTE], into(out), into(err));
  for (const figure of ["tensors", "liveBytes", "mappedBytes"] as const)
    assert.equal(ledger()[figure], before[figure], figure);
  return { code, out: out.join(""), err: err.join("") };
}

async function results(...words: string[]): Promise<Record<string, unknown>[]> {
  const { code, out, err } = await run(...words, "--json");
  assert.equal(code, 0, err);
  assert.match(err, /^(note: \S+run is the folder of a run; its model is taken from \S+final\n)?$/);
  return (JSON.parse(out) as { results: Record<string, unknown>[] }).results;
}

function rowsFile(t: TestContext, rows: object[]): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-eval-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "rows.jsonl");
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return file;
}

const CHOICES = [
  { question: "What swims in the sea?", choices: ["a whale", "a chair"], answer: "A" },
  { question: "Who hunts it?", choices: { text: ["nobody at all", "Ahab"], label: ["1", "2"] }, answerKey: "2" },
];
const QUESTIONS = [
  { question: "What is 3 and 4?", answer: "3 + 4 = 7\n#### 7" },
  { question: "What is 2 and 2?", answer: 4 },
];

test("rows that are too long are cut, or left out where that is asked or the run did so", async (t) => {
  const file = rowsFile(t, [
    { text: "Call me Ishmael." },
    { text: "The whale swims in the wide, wide sea. ".repeat(8) },
  ]);
  const short = ["--file", file, "--max-length", "32"];
  const [cut] = await results("--model", TINY, ...short);
  const [dropped] = await results("--model", TINY, ...short, "--excess-length-strategy", "drop");
  assert.deepEqual([cut.dropped, dropped.dropped], [0, 1]);
  assert.ok((dropped.tokens as number) < 32 && (cut.tokens as number) > 32);
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 1 }));
  // As `train` records a run.
  writeFileSync(join(place.out(), "metrics.jsonl"), "");
  writeFileSync(join(place.out(), "config.json"), JSON.stringify({ excess_length_strategy: "drop" }));
  const longer = rowsFile(t, [{ text: "ab" }, { text: "ab".repeat(100) }]);
  const [asTheRun] = await results("--model", place.out(), "--file", longer, "--max-length", "32");
  const [cutAgain] = await results(
    ...["--model", place.out(), "--file", longer, "--max-length", "32", "--excess-length-strategy", "truncate"],
  );
  assert.deepEqual([asTheRun.dropped, cutAgain.dropped], [1, 0]);
  // Rows with the columns that the run had are read as it read them, though they are questions with numbers by their own names.
  const columns = { prompt: "question", completion: "answer" };
  writeFileSync(join(place.out(), "config.json"), JSON.stringify({ columns }));
  const questions = ["--model", place.out(), "--file", rowsFile(t, [{ question: "ab", answer: "2" }])];
  const { out } = await run(...questions, "--json");
  assert.equal((JSON.parse(out) as { task: string }).task, "loss");
  const asked = await run(...questions, "--json", "--task", "exact-match", "--max-new-tokens", "2");
  assert.equal((JSON.parse(asked.out) as { task: string }).task, "exact-match");
  const choices = await run("--model", TINY, "--file", rowsFile(t, CHOICES), "--excess-length-strategy", "drop");
  assert.equal(choices.code, 2);
});

for (const changes of [
  { gamma: 0.5 },
  { coupling: "additive" },
  { coupling: "revffn", adapter_sharing: "stream", checkpoint_first_blocks: 1 },
  { coupling: "bdia" },
] as const) {
  test(`the losses that a run found, ${JSON.stringify(changes)}`, async (t) => {
    const place = makeWorkplace(t);
    const { evals } = await runTraining(settingsFor(place, { validation_file: place.rows, max_steps: 2, ...changes }));
    const at = (as: string) => evals.findLast(({ network }) => network === as)?.evalLoss as number;
    const words = ["--model", place.out(), "--file", place.rows, "--as", "both", "--max-length", "64"];
    const [trained, ordinary] = await results(...words);
    assert.deepEqual([trained.loss, ordinary.loss], [at("trained"), at("ordinary")]);
    assert.deepEqual([trained.perplexity, ordinary.perplexity], [Math.exp(at("trained")), Math.exp(at("ordinary"))]);
    if (!("gamma" in changes)) return;
    const { out } = await run(...words);
    assert.match(
      out,
      /^loss [\d.]+, perplexity [\d.]+ over \d+ tokens of 14 rows \(as trained, momentum\(0\.5\)\)\nloss .* \(the ordinary network\)\n$/,
    );
  });
}

test("choices and answers on the tiny model", async (t) => {
  const choices = ["--model", TINY, "--file", rowsFile(t, CHOICES)];
  const [found] = await results(...choices);
  assert.equal(found.rows, 2);
  assert.ok([0, 0.5, 1].includes(found.acc as number));
  // What passes together does not matter.
  const [alone] = await results(...choices, "--max-length", "16", "--per-device-eval-batch-size", "1");
  assert.deepEqual(alone, found);
  assert.match(
    (await run(...choices)).out,
    /^acc [\d.]+ % \+- [\d.]+, acc_norm [\d.]+ % \+- [\d.]+ over 2 rows \(the ordinary network\)\n$/,
  );

  const questions = ["--model", TINY, "--file", rowsFile(t, QUESTIONS), "--max-new-tokens", "6"];
  const [answered] = await results(...questions);
  const attempts = answered.attempts as { text: string; answer: string; correct: boolean }[];
  assert.deepEqual(
    attempts.map(({ answer }) => answer),
    ["7", "4"],
  );
  assert.ok(attempts.every(({ text }) => text !== ""));
  assert.equal(answered.exactMatch, attempts.filter(({ correct }) => correct).length / 2);
  // A model that is shown the answer by the template copies nothing; one row alone is asked.
  const [one] = await results(...questions, "--limit", "1", "--template", "{question}\\nIt is");
  assert.equal(one.rows, 1);
  assert.notEqual((one.attempts as typeof attempts)[0].text, attempts[0].text);
});

test("wrong calls are refused in one sentence", async (t) => {
  const choices = rowsFile(t, CHOICES);
  const questions = rowsFile(t, QUESTIONS);
  const texts = rowsFile(t, [{ text: "a" }, { text: "b" }]);
  const refused = async (words: string[], pattern: RegExp): Promise<void> => {
    const { code, out, err } = await run("--model", TINY, ...words);
    assert.deepEqual([code, out], [2, ""]);
    assert.match(err, /^revmoe: [^\n]*\n$/);
    assert.match(err, pattern);
  };
  await refused([], /--file FILE\.\.\. is missing/);
  await refused(["--file", "none.jsonl"], /none\.jsonl: there is no such file/);
  await refused(["--file", choices, "--as", "both"], /as: trained is not possible: .* has no revmoe\.json/);
  await refused(
    ["--file", choices, "--max-new-tokens", "3"],
    /max_new_tokens has no effect in task choice: it is for exact-match\./,
  );
  await refused(["--file", texts, "--chat"], /chat has no effect in task loss: it is for choice and exact-match\./);
  await refused(["--file", texts, "--task", "choice"], /rows\.jsonl:1: choices is missing/);
  await refused(["--file", questions, "--task", "loss"], /the first rows have the keys "question", "answer"/);
  await refused(["--file", questions, "--template", "Q"], /--template Q has no place for the question/);
  await refused(
    ["--file", questions, "--max-new-tokens", "4000"],
    /rows\.jsonl:1: max_new_tokens: 4000 behind a prompt of \d+ go beyond/,
  );
  await refused(
    ["--file", rowsFile(t, [{ question: "Why?", answer: "Because." }])],
    /rows\.jsonl:1: answer has no number/,
  );
  await refused(["--file", choices, "--tasks", "arc"], /--tasks is unknown\. Use file and task\./);
});
