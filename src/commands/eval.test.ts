// `revmoe eval` on rows whose columns have names of their own: named again, or as the run that made the model had them.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { runCli } from "../cli/program.js";
import { makeWorkplace } from "../train/testing-run.js";
import { COMMANDS } from "./registry.js";

async function evaluate(...words: string[]): Promise<{ task?: string; loss?: number; refusal?: string }> {
  const [out, err]: string[][] = [[], []];
  const program = { version: () => "1", commands: COMMANDS };
  const into = (lines: string[]) => ({ write: (text: string) => lines.push(text) });
  const code = await runCli(program, ["eval", "--json", "--threads", "1", ...words], into(out), into(err));
  if (code !== 0) return { refusal: err.join("") };
  const { task, results } = JSON.parse(out.join("")) as { task: string; results: { loss: number }[] };
  return { task, loss: results[0].loss };
}

test("rows by the columns of the run: given again, kept with the run, or named as we name them", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const rowsOf = (name: string, prompt: string, completion: string): string => {
    const path = join(folder, name);
    writeFileSync(path, `${JSON.stringify({ [prompt]: "The sum of 1 and 2 is", [completion]: " 3.", id: 1 })}\n`);
    return path;
  };
  const ours = rowsOf("ours.jsonl", "prompt", "completion");
  const plain = await evaluate("--model", model, "--file", ours);
  assert.equal(plain.task, "loss");

  const words = rowsOf("words.jsonl", "ask", "say");
  const named = (prompt: string, completion: string): string[] => [
    "--columns",
    `prompt=${prompt},completion=${completion}`,
  ];
  assert.deepEqual(await evaluate("--model", model, "--file", words, ...named("ask", "say")), plain);
  // These would be a question whose answer is a number, were they not named.
  const questions = rowsOf("questions.jsonl", "question", "answer");
  assert.deepEqual(await evaluate("--model", model, "--file", questions, ...named("question", "answer")), plain);

  const run = join(folder, "run");
  mkdirSync(run);
  writeFileSync(join(run, "metrics.jsonl"), "");
  writeFileSync(join(run, "config.json"), JSON.stringify({ columns: { prompt: "ask", completion: "say" } }));
  cpSync(model, join(run, "final"), { recursive: true });
  for (const file of [words, ours])
    assert.deepEqual(await evaluate("--model", join(run, "final"), "--file", file), plain);

  const wrong = await evaluate("--model", model, "--file", words, ...named("ask", "tell"));
  assert.match(wrong.refusal ?? "", /takes "completion" from a column "tell", which the rows do not have/);
  const idle = await evaluate(
    "--model",
    model,
    "--file",
    questions,
    "--task",
    "exact-match",
    ...named("question", "answer"),
  );
  assert.match(idle.refusal ?? "", /columns has no effect in task exact-match/);
});

test("what is trained of a row is as in the run, unless it is said otherwise", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const file = join(folder, "rows.jsonl");
  writeFileSync(file, `${JSON.stringify({ prompt: "The sum of 1 and 2 is", completion: " 3." })}\n`);
  const run = join(folder, "run");
  mkdirSync(run);
  writeFileSync(join(run, "metrics.jsonl"), "");
  cpSync(model, join(run, "final"), { recursive: true });
  const lossWith = async (settings: object, ...words: string[]): Promise<number | undefined> => {
    writeFileSync(join(run, "config.json"), JSON.stringify(settings));
    return (await evaluate("--model", join(run, "final"), "--file", file, ...words)).loss;
  };
  const completion = await lossWith({});
  const all = await lossWith({ completion_only_loss: false });
  assert.notEqual(all, completion);
  assert.equal(await lossWith({ train_on: "all" }), all);
  assert.equal(await lossWith({ train_on: "completion" }), completion);
  assert.equal(await lossWith({ train_on: "all" }, "--completion-only-loss"), completion);
});
