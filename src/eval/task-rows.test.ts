// The layouts of rows in use, and every way for a row to be wrong.
import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { detectTask, readAnswerRow, readChoiceRow } from "./task-rows.js";

const row = (value: Record<string, unknown>) => ({ value, place: "rows.jsonl:3" });

function refused(act: () => unknown, pattern: RegExp): void {
  assert.throws(act, (failure: Error) => {
    assert.ok(failure instanceof UserError, String(failure));
    assert.match(failure.message, /^rows\.jsonl:3: [^\n]+\.$/);
    assert.match(failure.message, pattern);
    return true;
  });
}

test("the task is seen from the rows where it is one alone", () => {
  for (const [value, task] of [
    [{ text: "a" }, "loss"],
    [{ prompt: "a", completion: "b" }, "loss"],
    [{ messages: [] }, "loss"],
    [{ question: "a", choices: ["x", "y"], answer: 0 }, "choice"],
    [{ ctx: "a", endings: ["x", "y"], label: "0" }, "choice"],
    [{ question: "a", answer: "4" }, "exact-match"],
  ] as const) {
    assert.equal(detectTask([row(value), row(value)]), task);
  }
  refused(() => detectTask([row({ text: "a", question: "b", answer: "c" })]), /fit loss and exact-match .* Set task/);
  refused(() => detectTask([row({ words: "a" })]), /the first rows have the keys "words", which no task has/);
  refused(() => detectTask([row({ text: null })]), /which no task has .*"text" is null\. Set task/);
  refused(() => detectTask([row({ text: "a" }), row({ question: "b", answer: "c" })]), /which no task has/);
});

test("columns that the run named count by their names in the run, where the rows have them", () => {
  const asked = { prompt: "question", completion: "answer" };
  for (const [value, columns, task] of [
    [{ question: "a", answer: "4" }, asked, "loss"],
    [{ prompt: "a", reply: "b" }, { completion: "reply" }, "loss"],
    [{ question: "a", answer: "4", story: "b" }, { text: "story" }, undefined],
    [{ question: "a", choices: ["x", "y"], answer: 0 }, { messages: "chat" }, "choice"],
    [{ question: "a", choices: ["x", "y"], answer: 0 }, asked, undefined],
    [{ ctx: "a", endings: ["x", "y"], label: "0" }, { text: "ctx" }, undefined],
    [{ text: "a" }, asked, "loss"],
    [{ endings: "a", label: "b" }, { prompt: "endings", completion: "label" }, "loss"],
  ] as [Record<string, unknown>, Record<string, string>, string | undefined][]) {
    if (task) assert.equal(detectTask([row(value), row(value)], columns), task, JSON.stringify(value));
    else refused(() => detectTask([row(value)], columns), /which fit loss and .* Set task/);
  }
  refused(
    () => detectTask([row({ words: "a" })], { prompt: "words" }),
    /the first rows have the keys "words", which no task has .* Set task, or/,
  );
});

test("choices in the layouts of question and answer, ARC and HellaSwag", () => {
  const two = { question: "Q?", choices: ["x", "y", "z"] };
  for (const [value, answer] of [
    [{ ...two, answer: 1 }, 1],
    [{ ...two, answer: "C" }, 2],
    [{ ...two, answer: "b" }, 1],
    [{ ...two, answer: "2" }, 2],
    [{ ...two, answer: "z" }, 2],
    [{ question: "Q?", choices: { text: ["x", "y", "z"], label: ["1", "2", "3"] }, answerKey: "3" }, 2],
    [{ question: "Q?", choices: { text: ["x", "y", "z"], label: ["A", "B", "C"] }, answerKey: "B" }, 1],
  ] as const) {
    assert.deepEqual(readChoiceRow(row(value)), {
      context: "Q?",
      isQuestion: true,
      choices: ["x", "y", "z"],
      answer,
      place: "rows.jsonl:3",
    });
  }
  assert.deepEqual(
    readChoiceRow(
      row({ activity_label: "Sailing", ctx: "A man [step] sails", endings: ["home.", "away."], label: "1" }),
    ),
    {
      context: "Sailing: A man sails",
      isQuestion: false,
      choices: ["home.", "away."],
      answer: 1,
      place: "rows.jsonl:3",
    },
  );
  assert.equal(readChoiceRow(row({ ...two, context: "It rains.", answer: 0 })).context, "It rains.\nQ?");
  assert.equal(readChoiceRow(row({ context: "It rains.", choices: ["x", "y"], answer: 0 })).context, "It rains.");
});

test("wrong rows are refused by place and value", () => {
  const two = { question: "Q?", choices: ["x", "y"] };
  refused(
    () => readChoiceRow(row({ ...two, answer: 2 })),
    /the answer is the number 2 \(expected 0 to 1, a letter, or one of the choices/,
  );
  refused(() => readChoiceRow(row({ ...two, answer: "C" })), /the answer is the text "C"/);
  refused(() => readChoiceRow(row(two)), /the answer is missing/);
  refused(
    () => readChoiceRow(row({ question: "Q?", choices: ["x"], answer: 0 })),
    /choices is an array of 1 \(expected at least two texts/,
  );
  refused(() => readChoiceRow(row({ question: "Q?", answer: 0 })), /choices is missing/);
  refused(
    () => readChoiceRow(row({ question: "Q?", choices: { text: ["x", "y"], label: ["A"] }, answerKey: "A" })),
    /choices\.label is an array of 1/,
  );
  refused(
    () => readChoiceRow(row({ question: "Q?", choices: { text: ["x", "y"], label: ["A", "B"] }, answerKey: "C" })),
    /the answer is the text "C" \(expected one of the labels A, B/,
  );
  refused(() => readChoiceRow(row({ choices: ["x", "y"], answer: 0 })), /context is missing \(expected a text\)/);
  refused(() => readAnswerRow(row({ question: "Q?", answer: null })), /answer is null \(expected a text or a number\)/);
  refused(() => readAnswerRow(row({ question: 3, answer: "4" })), /question is the number 3 \(expected a text\)/);
  assert.deepEqual(readAnswerRow(row({ question: "Q?", answer: 4 })), {
    question: "Q?",
    answer: "4",
    place: "rows.jsonl:3",
  });
});
